"""The data set's card: a README.md with the YAML head that Hugging Face reads."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.dataset.sources import SourceRecord
from luthier.files import write_text
from luthier.music.dataset.styles import StylePreset

CARD_NAME = "README.md"
# What the hub's list of licences calls them; any other is "other" with a name.
_HUB_LICENCES = {
    "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "apache-2.0",
    "mit", "unlicense", "pddl", "odbl",
}  # fmt: skip
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
_TEMPO_STEP = 10  # BPM a row of the balance


def write_card(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    sources: Sequence[SourceRecord],
    presets: Mapping[str, StylePreset],
    summary: Mapping[str, Any],
) -> None:
    """Write licences, attributions, balance and measures of a data set to `path`.

    Args:
        path: of the README.md.
        rows: every track once.
        sources: those that the tracks came from.
        presets: the styles' names, by id.
        summary: of the build, by the names that --json prints.
    """
    lines = [
        *_head(rows, sources, summary),
        "",
        "# Music data set",
        "",
        f"{summary['unique_tracks']} tracks, {summary['total_duration_hours'] * 60:.1f} minutes; "
        f"{summary['train_samples']} training samples and {summary['validation_samples']} "
        f"validation samples in a pass. Hash `{summary['dataset_hash']}`.",
        "",
        "The tables hold captions, lyrics and musical facts. Audio is referred to by path, not "
        "contained. A track that is repeated is stored once. Built with luthier.",
        *_licences(rows, sources),
        *_balance(rows, presets),
        *_measures(rows),
    ]
    if summary["warnings"]:
        lines += ["", "## Warnings", "", *(f"- {_one_line(text)}" for text in summary["warnings"])]
    write_text(path, "\n".join(lines) + "\n")


def _head(
    rows: Sequence[Mapping[str, Any]],
    sources: Sequence[SourceRecord],
    summary: Mapping[str, Any],
) -> Iterator[str]:
    names = sorted({source.license_type for source in sources})
    identifiers = sorted({name.lower() for name in names})
    yield "---"
    if set(identifiers) <= _HUB_LICENCES:
        yield from _yaml("license", identifiers if len(identifiers) > 1 else identifiers[0])
    else:
        yield "license: other"
        yield from _yaml("license_name", re.sub(r"[^a-z0-9.]+", "-", "-".join(identifiers))[:96])
    spoken = sorted({r["language"] for r in rows if not r["instrumental"]} - {"unknown"})
    if spoken:
        yield from _yaml("language", spoken)
    yield from _yaml("task_categories", ["text-to-audio"])
    yield from _yaml("tags", ["music", "audio", "ace-step"])
    count = len(rows)
    size = next((name for limit, name in _SIZES if count < limit), "1M<n<10M")
    yield from _yaml("size_categories", [size])
    yield "configs:"
    yield "- config_name: default"
    yield "  data_files:"
    for split in ("train", "validation"):
        if summary[f"{split}_samples"]:
            yield f"  - split: {split}"
            yield f"    path: {split}/*.arrow"
    yield "---"


def _yaml(name: str, value: str | Sequence[str]) -> Iterator[str]:
    # JSON strings are YAML strings, whatever is in them.
    if isinstance(value, str):
        yield f"{name}: {json.dumps(value, ensure_ascii=False)}"
    else:
        yield f"{name}:"
        yield from (f"- {json.dumps(item, ensure_ascii=False)}" for item in value)


def _licences(rows: Sequence[Mapping[str, Any]], sources: Sequence[SourceRecord]) -> Iterator[str]:
    count = Counter(row["source_id"] for row in rows)
    cells = [
        (
            source.source_id,
            source.source_type.replace("_", " "),
            source.provider,
            source.license_type,
            " ".join(source.flags),
            count[source.source_id],
            source.date_acquired,
            source.evidence or "",
        )
        for source in sources
    ]
    yield from ("", "## Licences", "")
    yield "Each source states that AI training is allowed; without that no track gets in."
    yield ""
    head = ("source", "type", "provider", "licence", "CC", "tracks", "acquired", "evidence")
    yield from _table(head, cells)
    credits = [source for source in sources if source.attribution_line]
    if credits:
        yield from ("", "### Attribution", "")
        yield from (f"- {_one_line(source.attribution_line)}" for source in credits)


def _balance(
    rows: Sequence[Mapping[str, Any]], presets: Mapping[str, StylePreset]
) -> Iterator[str]:
    styles = Counter(style for row in rows for style in row["style_ids"])
    keys = Counter(row["keyscale"] or "not known" for row in rows)
    tempi = Counter(_tempo_range(row["bpm"]) for row in rows)
    yield from ("", "## Balance", "")
    yield from _table(
        ("style", "name", "category", "tracks"),
        [(s, presets[s].name, presets[s].category, n) for s, n in sorted(styles.items())],
    )
    yield ""
    yield from _table(("key", "tracks"), sorted(keys.items()))
    yield ""
    ordered = sorted(tempi.items(), key=lambda item: (len(item[0].split("–")[0]), item[0]))
    yield from _table(("tempo", "tracks"), ordered)


def _tempo_range(bpm: float | None) -> str:
    if not bpm:
        return "not known"
    low = int(bpm // _TEMPO_STEP) * _TEMPO_STEP
    return f"{low}–{low + _TEMPO_STEP - 1} bpm"


def _measures(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    seconds = [row["duration"] for row in rows]
    tempi = [row["bpm"] for row in rows if row["bpm"]]
    captions = [len(row["caption"]) for row in rows]
    table = [("length, s", seconds), ("tempo, BPM", tempi), ("caption, characters", captions)]
    yield from ("", "## Measures", "")
    yield from _table(
        ("measure", "least", "median", "most"),
        [
            (name, f"{min(v):g}", f"{statistics.median(v):g}", f"{max(v):g}")
            for name, v in table
            if v
        ],
    )
    sung = sum(not row["instrumental"] for row in rows)
    yield ""
    yield f"{len(rows) - sung} tracks are instrumental, {sung} have words."


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for row in rows:
        yield "| " + " | ".join(_one_line(str(c)).replace("|", "\\|") for c in row) + " |"


def _one_line(text: str) -> str:
    return " ".join(text.split())
