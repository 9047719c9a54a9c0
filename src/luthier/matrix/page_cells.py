"""A cell of a matrix → its place in the list: players, and what was measured."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Piece = Mapping[str, Any]


def anchor(row: Row) -> str:
    """Where in the page a cell stands."""
    return f"c-{row['name']}"


def cell_html(row: Row) -> str:
    """One item of the list."""
    state = str(row["state"])
    title = f"{row['task']} · {row['bpm']} bpm · {row['key']} · {row['duration_s']:g} s"
    more = " · ".join(
        [str(row["model"]), f"seed {row['seed']}"]
        + ([f"{row['steps']} steps"] if row["steps"] else [])
        + ([f"batch {row['batch']}"] if row["batch"] > 1 else [])
    )
    inside = (
        "".join(_piece(piece) for piece in row["pieces"]) + facts_html(_cell_facts(row))
        if state == "ok"
        else f'<p class="why">{html.escape(state)}: {html.escape(str(row["error"]))}</p>'
    )
    return (
        f'<li id="{html.escape(anchor(row))}" class="{state.replace(" ", "-")}" tabindex="-1">'
        f"<h3>{html.escape(title)}</h3><small>{html.escape(more)}</small>{inside}</li>"
    )


def _piece(piece: Piece) -> str:
    name = html.escape(str(piece["file"]))
    return (
        f'<audio controls preload="none" src="{name}" aria-label="{name}"></audio>'
        f"{facts_html(_piece_facts(piece))}"
    )


def facts_html(facts: Sequence[tuple[str, str]]) -> str:
    """Names and values as a list of definitions."""
    pairs = "".join(
        f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in facts
    )
    return f"<dl>{pairs}</dl>"


def _piece_facts(piece: Piece) -> list[tuple[str, str]]:
    tempo, key, grid, levels = (piece[name] for name in ("tempo", "key", "grid", "levels"))
    heard = f"{tempo['measured_bpm']:g} bpm" if tempo["measured_bpm"] else "none"
    facts = [
        ("tempo", f"{heard} ({tempo['octave'] or 'missed'})"),
        ("key", f"{key['measured']} ({key['relation']})"),
    ]
    if grid:
        steady = grid.get("steady_share")
        own = f" ({steady:.0%} at its own tempo)" if steady is not None else ""
        near = f"{grid['near_share']:.0%} near{own}"
        facts.append(("off the grid", f"{grid['median_ms']:.0f} ms, {near}"))
    edit, outside, layer = (piece.get(name) for name in ("edit", "outside", "layer"))
    if edit:
        smooth = sum(seam["smooth"] for seam in edit["seams"])
        facts.append(("smooth edges", f"{smooth} of {len(edit['seams'])}"))
    if outside:
        exact = "exact" if outside["exact"] else f"{outside['largest_db']:.0f} dB off"
        facts.append(("outside", exact))
    if layer:
        lag = f", {layer['grid']['lag_ms']:+.0f} ms" if layer["grid"] else ""
        level = "silent" if layer["level_db"] is None else f"{layer['level_db']:+.1f} dB"
        facts.append(("under the context", f"{level}{lag}, likeness {layer['likeness']:.2f}"))
    loudness = levels["loudness_lufs"]
    facts.append(("level", "silent" if loudness is None else f"{loudness:.1f} LUFS"))
    return facts


def _cell_facts(row: Row) -> list[tuple[str, str]]:
    runtime, peak = row["runtime"], row["memory"]["peak_bytes"]
    facts = [("made in", f"{runtime['wall_s']:.1f} s")]
    if runtime["load_s"] is not None:
        facts.append(("opened in", f"{runtime['load_s']:.1f} s"))
    if peak is not None:
        facts.append(("memory", f"{peak / 1e6:.0f} MB"))
    return facts
