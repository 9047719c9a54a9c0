"""What a run has to show → one HTML file that needs no other: players, pictures, table, commands.

All text is escaped; pictures and sounds are inside the page.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from luthier.files import write_text
from luthier.report.document import Document
from luthier.report.figures import loss_svg
from luthier.report.player import ClipGroup, group_html

Value = float | str | None
# Fret n of a string lies at 1 − 2^(−n/12) of its length: the strip of stages is drawn as a neck.
_FRET_RATIO = 2 ** (-1 / 12)


@dataclass(frozen=True)
class Stage:
    """One stage of the chain and how long it took; None when it did not run."""

    name: str
    seconds: float | None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One measure over the table's columns.

    Attributes:
        label: what is measured.
        values: one a column; None where it was not measured.
        better: which way is better; marks the best number. None marks nothing.
        unit: behind each number, e.g. "LUFS" or "%".
        digits: after the decimal point.
        note: how to read it, one line.
    """

    label: str
    values: tuple[Value, ...]
    better: Literal["lower", "higher"] | None = None
    unit: str = ""
    digits: int = 2
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Measures as rows, what was measured as columns."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Command:
    """A command to go on with."""

    text: str
    says: str


@dataclass(frozen=True)
class ReportPage:
    """Everything on the page; what is empty is left out.

    Attributes:
        title: the heading.
        lead: one or two sentences under it.
        verdict: the result in a sentence.
        good: whether the verdict is the one that was hoped for.
        stages: the chain with timings, in order.
        groups: clips to compare.
        table: the measures.
        loss: training loss as (step, loss).
        loss_note: how the training was run, one line.
        commands: what to do next.
        provenance: label and value, for the footer: date, machine, versions, licences, seeds.
        measures_first: the table before the clips: where it is the result that counts.
    """

    title: str
    lead: str
    verdict: str = ""
    good: bool = True
    stages: tuple[Stage, ...] = ()
    groups: tuple[ClipGroup, ...] = ()
    table: Table | None = None
    loss: tuple[tuple[int, float], ...] = ()
    loss_note: str = ""
    commands: tuple[Command, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    measures_first: bool = False


def render(page: ReportPage) -> str:
    """The page as one HTML document."""
    listen = _section("listen", "Listen", "".join(group_html(g) for g in page.groups))
    measures = _section("measures", "Measures", _table(page.table))
    parts = [
        _stages(page.stages),
        *((measures, listen) if page.measures_first else (listen, measures)),
        _section("loss", "Training loss", _loss(page)),
        _section("next", "Go on with", _commands(page.commands)),
    ]
    body = f"<main>\n{''.join(parts)}\n</main>\n<footer>{_pairs(page.provenance)}</footer>"
    return Document(page.title, page.lead, body, "page", "inline", under=_verdict(page)).to_html()


def write_report(path: Path, page: ReportPage) -> None:
    """Render `page` and write it to `path` atomically."""
    write_text(path, render(page))


def _section(identity: str, title: str, body: str) -> str:
    if not body:
        return ""
    heading = f'<h2 id="{identity}-title">{title}</h2>'
    return f'<section id="{identity}" aria-labelledby="{identity}-title">{heading}{body}</section>'


def _verdict(page: ReportPage) -> str:
    if not page.verdict:
        return ""
    kind, mark = ("good", "✓") if page.good else ("weak", "!")
    text = html.escape(page.verdict)
    return f'<p class="verdict {kind}"><span aria-hidden="true">{mark}</span>{text}</p>'


def _stages(stages: tuple[Stage, ...]) -> str:
    if not stages:
        return ""
    items = []
    for number, stage in enumerate(stages):
        note = f"<small>{html.escape(stage.note)}</small>" if stage.note else ""
        grow = f"{_FRET_RATIO ** (number * 0.5):.3f}"  # milder than true frets: names must fit
        items.append(
            f'<li style="flex-grow:{grow}"><b>{html.escape(stage.name)}</b>'
            f"<span>{duration_text(stage.seconds)}</span>{note}</li>"
        )
    total = sum(stage.seconds or 0.0 for stage in stages)
    return (
        '<section id="stages" aria-label="stages of the run">'
        f'<ol class="neck">{"".join(items)}</ol>'
        f'<p class="total">{duration_text(total)} in all</p></section>'
    )


def duration_text(seconds: float | None) -> str:
    """A duration as people say it: "0.4 s", "12 s", "3 min 05 s"; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def _table(table: Table | None) -> str:
    if table is None or not table.rows:
        return ""
    head = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in table.columns)
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    body = "".join(_row(row) for row in table.rows)
    return (
        '<div class="scroll"><table><thead><tr><th scope="col"><span class="hidden">measure</span>'
        f"</th>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
    )


def _row(row: Row) -> str:
    numbers = [v for v in row.values if isinstance(v, int | float)]
    best = None
    if row.better and len(set(numbers)) > 1:
        best = min(numbers) if row.better == "lower" else max(numbers)
    note = f"<small>{html.escape(row.note)}</small>" if row.note else ""
    cells = "".join(_cell(value, row, is_best=value == best is not None) for value in row.values)
    return f'<tr><th scope="row">{html.escape(row.label)}{note}</th>{cells}</tr>'


def _cell(value: Value, row: Row, *, is_best: bool) -> str:
    if value is None:
        return '<td class="none">–</td>'
    text = value if isinstance(value, str) else f"{value:.{row.digits}f}".replace("-", "−")
    unit = f" <i>{html.escape(row.unit)}</i>" if row.unit and not isinstance(value, str) else ""
    if is_best:
        return f'<td class="best">{html.escape(text)}{unit}<span class="hidden"> (best)</span></td>'
    return f"<td>{html.escape(text)}{unit}</td>"


def _loss(page: ReportPage) -> str:
    picture = loss_svg(page.loss)
    if not picture:
        return ""
    note = f"<figcaption>{html.escape(page.loss_note)}</figcaption>" if page.loss_note else ""
    return f'<figure class="panel">{picture}{note}</figure>'


def _commands(commands: tuple[Command, ...]) -> str:
    items = "".join(
        f"<li><p>{html.escape(c.says)}</p><div><code>{html.escape(c.text)}</code>"
        '<button type="button" class="copy">Copy</button></div></li>'
        for c in commands
    )
    return f'<ul class="commands">{items}</ul>' if items else ""


def _pairs(pairs: tuple[tuple[str, str], ...]) -> str:
    rows = "".join(
        f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in pairs
    )
    return f"<dl>{rows}</dl>" if rows else ""
