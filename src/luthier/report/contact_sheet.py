"""What curation found → one page to look at: a row a track with outline, beats, player and verdict.

The page needs no other file but the audio, which it finds beside itself. All text is escaped: a
track may be called `<script>`.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from luthier.files import write_text
from luthier.report.document import Document, fill
from luthier.report.page import duration_text

_COLUMNS = 400  # of an outline
_MOST_LINES = 130  # more beats than that would fill the picture: every 4th, 16th … is drawn
_VERDICTS = {"success": "ready", "skipped": "skipped", "failed": "failed"}
_MARKS = {"success": "✓", "skipped": "–", "failed": "×"}
# The page links the tracks of a group, so it leaves out the notes that say the same.
_DUPLICATE_NOTE = "the same recording as "
_BODY = """<div class="bar" hidden><div>
<div class="show" role="group" aria-label="Show">{{filters}}</div>
<label class="sort">sort by <select id="sort">
<option value="order">folder and name</option>
<option value="score">score, lowest first</option>
<option value="status">verdict</option>
<option value="duration">length</option>
<option value="loudness">loudness</option>
<option value="tempo">tempo</option>
</select></label>
</div></div>
<main>
<ol id="tracks" role="list">{{rows}}</ol>
<p class="none" role="status" hidden></p>
</main>"""

Row = Mapping[str, Any]
Links = Mapping[str, Sequence[tuple[str, float]]]  # by source: the sources like it, and how much


def write_contact_sheet(path: Path, document: Mapping[str, Any], title: str) -> None:
    """Write the page to `path`, in the folder of the curated audio, atomically.

    Args:
        path: the page.
        document: `CurateReport.to_json(outlines=True)`.
        title: the heading, e.g. the name of the folder of recordings.
    """
    write_text(path, contact_sheet(document, title))


def contact_sheet(document: Mapping[str, Any], title: str) -> str:
    """The page as one HTML document."""
    rows: list[Row] = document["results"]
    links = _links(document.get("duplicates", ()))
    number = {row["source"]: index for index, row in enumerate(rows)}
    root = os.path.commonpath([Path(row["source"]).parent for row in rows]) if rows else ""
    body = fill(
        _BODY,
        {
            "filters": _filters(document, len(rows), len(links)),
            "rows": "".join(_row(row, root, number, links) for row in rows),
        },
    )
    return Document(
        title, _lead(rows), body, "contact_sheet", "beside", kind="contact sheet"
    ).to_html()


def _lead(rows: Sequence[Row]) -> str:
    ready = [row for row in rows if row["status"] == "success"]
    total = duration_text(sum(row["duration"] for row in ready))
    return f"{len(ready)} of {len(rows)} recordings are ready for training: {total} of music."


def _links(groups: Sequence[Mapping[str, Any]]) -> Links:
    links: dict[str, list[tuple[str, float]]] = {}
    for group in groups:
        for other in group["others"]:
            links.setdefault(group["kept"], []).append((other["source"], other["similarity"]))
            links.setdefault(other["source"], []).append((group["kept"], other["similarity"]))
    return links


def _filters(document: Mapping[str, Any], total: int, duplicates: int) -> str:
    counts = {
        "all": ("all", total),
        "success": ("ready", document["processed"]),
        "skipped": ("skipped", document["skipped"]),
        "failed": ("failed", document["failed"]),
        "duplicate": ("duplicates", duplicates),
    }
    return "".join(
        f'<button type="button" data-show="{key}" aria-pressed="{str(key == "all").lower()}">'
        f"{label} <b>{count}</b></button>"
        for key, (label, count) in counts.items()
        if count or key in ("all", "success")
    )


def _row(row: Row, root: str, number: Mapping[str, int], links: Links) -> str:
    source = Path(row["source"])
    index, status = number[row["source"]], row["status"]
    name = html.escape(source.name)
    folder = source.parent.relative_to(root).as_posix()
    place = f'<p class="place">{html.escape(folder)}</p>' if folder != "." else ""
    measures = row.get("measures") or {}
    keys = {
        "status": status,
        "order": index,
        "score": row["quality_score"],
        "duration": row["duration"],
        "loudness": measures.get("loudness_lufs"),
        "tempo": row.get("bpm"),
        "duplicate": "yes" if row["source"] in links else None,
    }
    data = "".join(
        f' data-{key}="{html.escape(str(value))}"'
        for key, value in keys.items()
        if value is not None
    )
    return (
        f'<li><article id="t{index}" class="{status}" aria-labelledby="n{index}"{data}>'
        f'<header><p class="verdict"><span aria-hidden="true">{_MARKS[status]}</span>'
        f"{_VERDICTS[status]}</p>"
        f'<p class="score"><b>{row["quality_score"]}</b><small> of 100</small></p>'
        f'<h2 id="n{index}">{name}</h2>{place}'
        f'{_said(row, number, links)}</header><div class="sound">{_outline(row, name)}'
        f"{_player(row, name)}{_measures(row, measures)}</div></article></li>"
    )


def _outline(row: Row, name: str) -> str:
    """The waveform as SVG, with a line on every beat, or on every fourth where they are many."""
    envelope = row.get("envelope") or []
    if len(envelope) < 2:
        return '<p class="blank">not encoded, so there is no picture</p>'
    columns = _columns(envelope)
    top = max(max(abs(low), abs(high)) for low, high in columns) or 1.0
    tops = [f"{i} {50 - 46 * high / top:.1f}" for i, (_, high) in enumerate(columns)]
    ends = [f"{i} {50.8 - 46 * low / top:.1f}" for i, (low, _) in enumerate(columns)]
    area = f"M{'L'.join(tops + ends[::-1])}Z"
    every, grid = _grid(row)
    lines = f'<path class="beats" d="{grid}"/>' if grid else ""
    beats = f", a line {'every beat' if every == 1 else f'every {every} beats'}" if grid else ""
    return (
        f'<div class="wave"><svg viewBox="0 0 {len(columns) - 1} 100" preserveAspectRatio="none" '
        f'role="img" aria-label="outline of {name}{beats}">'
        f'<path class="outline" d="{area}"/>{lines}</svg>'
        '<span class="playhead" aria-hidden="true"></span></div>'
    )


def _columns(envelope: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """At most `_COLUMNS` (low, high) pairs."""
    count = min(_COLUMNS, len(envelope))
    edges = [len(envelope) * i // count for i in range(count + 1)]
    parts = (envelope[edges[i] : edges[i + 1]] for i in range(count))
    return [(min(p[0] for p in part), max(p[1] for p in part)) for part in parts]


def _grid(row: Row) -> tuple[int, str]:
    """Every how many beats there is a line, and the lines as an SVG path."""
    beats = row.get("beats") or []
    every = 1
    while len(beats) / every > _MOST_LINES:
        every *= 4
    width = min(_COLUMNS, len(row["envelope"])) - 1
    length = row["duration"] or 1.0
    drawn = (beat / length * width for beat in beats[::every] if 0 <= beat <= length)
    return every, "".join(f"M{x:.2f} 0V100" for x in drawn)


def _player(row: Row, name: str) -> str:
    if not row.get("output_path"):
        return ""
    link = html.escape(quote(Path(row["output_path"]).name))
    return f'<audio controls preload="none" src="{link}" aria-label="{name}"></audio>'


def _said(row: Row, number: Mapping[str, int], links: Links) -> str:
    lines = [html.escape(row["reason"])] if row.get("reason") else []
    lines += [html.escape(n) for n in row.get("notes", ()) if not n.startswith(_DUPLICATE_NOTE)]
    for other, alike in links.get(row["source"], ()):
        name = html.escape(Path(other).name)
        lines.append(
            f'{_DUPLICATE_NOTE}<a href="#t{number[other]}">{name}</a> '
            f"<small>{alike:.0%} alike</small>"
        )
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f'<ul class="reasons">{items}</ul>' if items else ""


def _measures(row: Row, measures: Mapping[str, Any]) -> str:
    """Label and value of everything that was measured."""
    bpm, rate = row.get("bpm"), measures.get("sample_rate")
    image = measures.get("image") or f"{measures.get('channels')} channels"
    pairs = {
        "length": duration_text(row["duration"]) if row["duration"] else None,
        "tempo": f"{bpm:.1f} bpm" if bpm else None,
        "key": row.get("key"),
        "metre": f"{row['metre']}/4" if row.get("metre") else None,
        "loudness": _number(measures.get("loudness_lufs"), "LUFS"),
        "peak": _number(measures.get("peak_db"), "dB"),
        "true peak": _number(measures.get("true_peak_db"), "dB"),
        "clipped": _share(measures.get("clipping_ratio")),
        "silent": _share(measures.get("silence_ratio")),
        "bandwidth": _number(measures.get("bandwidth_hz"), "Hz", 0),
        "source": f"{rate / 1000:g} kHz, {image}" if rate else None,
    }
    items = "".join(
        f"<div><dt>{label}</dt><dd>{html.escape(value)}</dd></div>"
        for label, value in pairs.items()
        if value
    )
    return f"<dl>{items}</dl>" if items else ""


def _number(value: float | None, unit: str, digits: int = 1) -> str | None:
    return None if value is None else f"{value:.{digits}f} {unit}".replace("-", "−")


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.2%}" if 0 < value < 0.1 else f"{value:.0%}"
