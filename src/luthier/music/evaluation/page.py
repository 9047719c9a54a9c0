"""Evaluations and the clips that they are about → one page with players side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.audio.decode import read_audio
from luthier.report.page import ReportPage, Row, Table, write_report
from luthier.report.player import Clip, ClipGroup

_MAX_CLIPS = 6
_MAX_CLIP_S = 20.0
_MAX_REAL = 3


@dataclass(frozen=True)
class Side:
    """One set of clips: a column of the table, and a player in every group.

    Attributes:
        title: of the column.
        folder: of the clips.
        evaluation: the JSON object of its evaluation.
    """

    title: str
    folder: Path
    evaluation: Mapping[str, Any]


def write_evaluation_page(
    path: Path,
    sides: Sequence[Side],
    real: Sequence[Path],
    *,
    verdict: str = "",
    good: bool = True,
) -> None:
    """Write the page of one evaluation, or of several side by side.

    Args:
        path: the HTML file.
        sides: in the order of the columns.
        real: recordings of the validation set; the first three are played.
        verdict: the result in a sentence; empty tells the gates of the first side.
        good: whether the verdict is the one that was hoped for.
    """
    first = sides[0].evaluation
    if not verdict:
        failed = [gate["name"] for gate in first["gates"] if gate["passed"] is False]
        open_ = [gate["name"] for gate in first["gates"] if gate["passed"] is None]
        good = not failed
        verdict = (
            f"Gates not passed: {', '.join(failed)}."
            if failed
            else "Every measured gate is passed."
        )
        verdict += f" Not measured: {', '.join(open_)}." if open_ else ""
    clips = sum(len(side.evaluation["clips"]) for side in sides)
    fad = first["fad"]
    write_report(
        path,
        ReportPage(
            title=sides[0].title if len(sides) == 1 else "Checkpoints side by side",
            lead=(
                f"{clips} clips against {first['reference_tracks']} real tracks, by "
                f"{fad['embedding']}."
            ),
            verdict=verdict,
            good=good,
            groups=(*_real_group(real), *_clip_groups(sides)),
            table=_table(sides),
            measures_first=True,
            provenance=(
                ("embedding", f"{fad['embedding']}, {fad['dim']} dimensions"),
                ("windows", f"{fad['n_reference']} real, {fad['n_candidate']} generated"),
                ("CLAP", first["clap"]["model"] or first["clap"]["reason"] or "none"),
            ),
        ),
    )


def _real_group(real: Sequence[Path]) -> tuple[ClipGroup, ...]:
    clips = tuple(_clip(path, path.stem, "real track") for path in real[:_MAX_REAL])
    note = "What the clips are measured against."
    return (ClipGroup("Real tracks", note, clips, alike=False),) if clips else ()


def _clip_groups(sides: Sequence[Side]) -> list[ClipGroup]:
    """Of several sides a group for each clip that all have; of one its extremes."""
    if len(sides) == 1:
        return _extremes(sides[0])
    shared = {clip["file"] for clip in sides[0].evaluation["clips"]}
    for side in sides[1:]:
        shared &= {clip["file"] for clip in side.evaluation["clips"]}
    nearest, furthest = _halves(sides[0], shared)
    return [_group(sides, name) for name in [*furthest, *nearest]]


def _extremes(side: Side) -> list[ClipGroup]:
    groups = []
    nearest, furthest = _halves(side, {clip["file"] for clip in side.evaluation["clips"]})
    for title, names in (("Nearest to the real tracks", nearest), ("Furthest away", furthest)):
        clips = tuple(_of(side, name, _row(side, name).get("style_id") or name) for name in names)
        if clips:
            groups.append(ClipGroup(title, "", clips, alike=False))
    return groups


def _halves(side: Side, among: set[str]) -> tuple[list[str], list[str]]:
    """The clips nearest to the real tracks, the nearest first, and those furthest, likewise."""
    rows = [clip for clip in side.evaluation["clips"] if clip["file"] in among]
    names = [row["file"] for row in sorted(rows, key=lambda row: row["distance"])]
    half = min(_MAX_CLIPS, len(names)) // 2
    return names[: min(_MAX_CLIPS, len(names)) - half], names[::-1][:half]


def _group(sides: Sequence[Side], name: str) -> ClipGroup:
    style = _row(sides[0], name).get("style_id")
    clips = tuple(_of(side, name, side.title) for side in sides)
    return ClipGroup(style or name, name if style else "", clips)


def _of(side: Side, name: str, title: str) -> Clip:
    row = _row(side, name)
    facts = [("distance", f"{row['distance']:.2f}"), ("repetition", f"{row['repetition']:.2f}")]
    for kind, wanted, heard in (
        ("tempo", "requested_bpm", "measured_bpm"),
        ("key", "requested", "measured"),
    ):
        for check in (side.evaluation[kind] or {}).get("checks", ()):
            if check["file"] == name:
                facts.append((kind, f"{_said(check[heard])} ({_said(check[wanted])} asked)"))
    return _clip(side.folder / name, title, name, tuple(facts))


def _said(value: float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and value else str(value or "none")


def _row(side: Side, name: str) -> Mapping[str, Any]:
    row: Mapping[str, Any] = next(c for c in side.evaluation["clips"] if c["file"] == name)
    return row


def _clip(path: Path, title: str, subtitle: str, facts: tuple[tuple[str, str], ...] = ()) -> Clip:
    samples, rate = read_audio(path)
    samples = samples[:2, : round(_MAX_CLIP_S * rate)]
    return Clip(title, subtitle, samples, rate, facts=facts)


def _table(sides: Sequence[Side]) -> Table:
    found = [side.evaluation for side in sides]
    rows = [
        Row(
            "Fréchet distance",
            tuple(e["fad_score"] for e in found),
            better="lower",
            note="to the real tracks; lower is nearer",
        ),
        Row("95 % interval", tuple(_interval(e["fad"]["interval_95"]) for e in found)),
        Row("Extrapolated (FAD∞)", tuple(e["fad"]["fad_infinity"] for e in found), better="lower"),
        Row(
            "CLAP score",
            tuple(e["clap_score"] for e in found),
            better="higher",
            digits=3,
            note="likeness of clips and prompts",
        ),
        Row("Styles recognised", tuple(_styles(e["styles"]) for e in found)),
        Row("Tempo as asked", tuple(_share(e["tempo"]) for e in found)),
        Row("Key as asked", tuple(_share(e["key"]) for e in found)),
        Row("Loudness", tuple(e["loudness_lufs"] for e in found), unit="LUFS", digits=1),
        Row("Repetition", tuple(e["repetition"]["clips"] for e in found), note=_real(found[0])),
    ]
    for index, gate in enumerate(found[0]["gates"]):
        values = tuple(_gate(e["gates"][index]) for e in found)
        rows.append(Row(f"Gate: {gate['name']}", values, note=gate["note"]))
    notes = dict.fromkeys(e["fad"]["warning"] for e in found if e["fad"]["warning"])
    told = tuple(row for row in rows if any(value is not None for value in row.values))
    return Table(tuple(side.title for side in sides), told, note=" ".join(notes))


def _interval(values: Sequence[float] | None) -> str | None:
    return None if values is None else f"{values[0]:.2f} to {values[1]:.2f}"


def _styles(styles: Mapping[str, Any]) -> str | None:
    return f"{styles['recognised']} of {styles['measured']}" if styles["measured"] else None


def _share(adherence: Mapping[str, Any] | None) -> str | None:
    return f"{adherence['passed']} of {adherence['n']}" if adherence else None


def _real(evaluation: Mapping[str, Any]) -> str:
    return f"1 is a loop; real tracks {evaluation['repetition']['real']:.2f}"


def _gate(gate: Mapping[str, Any]) -> str:
    word = {True: "passed", False: "failed", None: "open"}[gate["passed"]]
    return word if gate["value"] is None else f"{gate['value']:.2f}, {word}"
