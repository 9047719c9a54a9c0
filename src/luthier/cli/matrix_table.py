"""A matrix as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WIDE = 140
_MARKS = {"ok": "✓", "failed": "✕ failed", "not supported": "– not supported"}


def table_text(result: Mapping[str, Any]) -> str:
    """The cells by rich, as wide as the terminal; beneath, the values to offer."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from luthier.matrix.page import values_text
    from luthier.matrix.result import flat

    table = Table(box=None, pad_edge=False, header_style="bold")
    lines = flat(result["cells"])
    varied = [n for n in ("model", "seed", "steps", "batch") if len({x[n] for x in lines}) > 1]
    for name in ("task", "bpm", "key", "s", *varied):
        table.add_column(name)
    for name in ("made in", "× live", "MB", "tempo", "key found", "on grid", "edges", ""):
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(*(Text(cell) for cell in _row(line, varied)))
    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no width: 80 columns would cut everything
        console = Console(highlight=False, width=_WIDE)
    with console.capture() as capture:
        console.print(table)
        for name, model in result["recommended"].items():
            offered = ", ".join(model["offer"]) or "nothing"
            console.print(Text(f"{name}: offer {offered}; {values_text(model)}"))
    return capture.get().rstrip()


def _row(line: Mapping[str, Any], varied: list[str]) -> list[str]:
    axes = [line["task"], line["bpm"], line["key"], f"{line['duration_s']:g}"]
    axes += ["own" if line[name] is None else line[name] for name in varied]
    peak = line["peak_bytes"]
    smooth = {True: "smooth", False: "heard", None: ""}[line["seams_smooth"]]
    found = [
        _said(line["runtime_s"], ".1f", " s"),
        _said(line["sound_s_per_s"], ".2f"),
        "" if peak is None else f"{peak / 1e6:.0f}",
        _tempo(line),
        line["key_found"] or "",
        _said(line["grid_near_share"], ".0%"),
        smooth,
        _MARKS[line["state"]],
    ]
    return [str(value) for value in [*axes, *found]]


def _tempo(line: Mapping[str, Any]) -> str:
    found, octave = line["tempo_found"], line["tempo_octave"]
    if found is None:
        return ""
    mark = {"same": "", "half": " ½", "double": " ×2"}.get(octave, " missed")
    return f"{found:.1f}{mark}"


def _said(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"
