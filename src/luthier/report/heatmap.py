"""Numbers over two axes → a table whose cells are shaded, with the number in every one.

The shades run from pale to deep in one hue, so that they differ in lightness too and nobody needs
the colour to read them; what was not measured is a dash on stripes.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

_SHADES = 6  # classes s0 … s5 of the style sheet, good to bad


@dataclass(frozen=True)
class Heat:
    """One cell.

    Attributes:
        text: what stands in it.
        badness: 0 (best) to 1; None shades nothing: there is no number.
        says: the whole story in words, for a tool tip and for those who cannot see.
        link: of what it is about, in the same page; empty for none.
    """

    text: str
    badness: float | None
    says: str
    link: str = ""


@dataclass(frozen=True)
class HeatMap:
    """A shaded table.

    Attributes:
        identity: of its place in the page.
        title, note: over it.
        scale: what the palest and the deepest shade stand for.
        columns: groups of columns: (name of the group, names in it).
        rows: likewise.
        cells: (row group, row, column group, column) → cell; what is missing is empty.
    """

    identity: str
    title: str
    note: str
    scale: tuple[str, str]
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    cells: Mapping[tuple[str, str, str, str], Heat]


def heatmap_html(heat: HeatMap) -> str:
    """The map with title, note and scale."""
    title = f"{heat.identity}-title"
    return (
        f'<section class="heat" id="{heat.identity}" aria-labelledby="{title}">'
        f'<header><h3 id="{title}">{html.escape(heat.title)}</h3>{_scale(heat.scale)}'
        f"<p>{html.escape(heat.note)}</p></header>"
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{title}">'
        f"<table>{_head(heat)}{''.join(_group(heat, *group) for group in heat.rows)}</table></div>"
        "</section>"
    )


def _scale(ends: tuple[str, str]) -> str:
    steps = "".join(f'<i class="s{n}"></i>' for n in range(_SHADES))
    return (
        f'<p class="scale"><span>{html.escape(ends[0])}</span><span aria-hidden="true">{steps}'
        f"</span><span>{html.escape(ends[1])}</span></p>"
    )


def _head(heat: HeatMap) -> str:
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(names)}">{html.escape(group)}</th>'
        for group, names in heat.columns
    )
    names = "".join(
        f'<th scope="col"{_edge(n)}>{html.escape(name)}</th>'
        for _, names in heat.columns
        for n, name in enumerate(names)
    )
    corner = '<td rowspan="2"></td>'
    return f"<thead><tr>{corner}{groups}</tr><tr>{names}</tr></thead>"


def _group(heat: HeatMap, group: str, names: tuple[str, ...]) -> str:
    width = 1 + sum(len(columns) for _, columns in heat.columns)
    head = f'<tr><th scope="rowgroup" colspan="{width}">{html.escape(group)}</th></tr>'
    return f"<tbody>{head}{''.join(_row(heat, group, name) for name in names)}</tbody>"


def _row(heat: HeatMap, group: str, name: str) -> str:
    cells = "".join(
        _cell(heat.cells.get((group, name, column_group, column)), _edge(i))
        for column_group, columns in heat.columns
        for i, column in enumerate(columns)
    )
    return f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>'


def _edge(number: int) -> str:
    return ' data-first=""' if number == 0 else ""


def _cell(heat: Heat | None, edge: str) -> str:
    if heat is None:
        return f"<td{edge}></td>"
    shade = "none" if heat.badness is None else f"s{shade_of(heat.badness)}"
    text, says = html.escape(heat.text), html.escape(heat.says)
    inside = (
        f'<a href="#{html.escape(heat.link)}" title="{says}">{text}</a>'
        if heat.link
        else f'<span title="{says}">{text}</span>'
    )
    return f'<td class="{shade}"{edge}>{inside}</td>'


def shade_of(badness: float) -> int:
    """Which of six shades stands for a value from 0 to 1; what lies beyond takes the last one."""
    return min(_SHADES - 1, max(0, int(badness * _SHADES)))
