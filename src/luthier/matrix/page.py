"""matrix.json → one page: what to offer, heat maps, every cell with its player."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.files import write_text
from luthier.matrix.page_cells import cell_html, facts_html
from luthier.matrix.page_maps import heat_maps
from luthier.report.document import Document
from luthier.report.heatmap import heatmap_html

_MARKS = {"live": "●", "slow": "◐", "weak": "○", "unstable": "✕", "not supported": "–"}


def write_matrix_page(path: Path, result: Mapping[str, Any]) -> None:
    """Render `result` and write it atomically; its players look for the audio beside the page."""
    write_text(path, matrix_page(result))


def matrix_page(result: Mapping[str, Any]) -> str:
    """The page as one HTML document."""
    rows = result["cells"]
    maps = "".join(heatmap_html(one) for one in heat_maps(rows))
    body = (
        "<main>"
        + _section("offer", "What to offer", _offers(result))
        + _section("maps", "Maps", maps)
        + _section("cells", "Every cell", f'<ul class="cells">{"".join(map(cell_html, rows))}</ul>')
        + f"</main><footer>{_footer(result)}</footer>"
    )
    busy = html.escape(busy_text(result))
    under = f'<p class="busy">{busy}</p>' if busy else ""
    title, lead = "Exploration matrix", _lead(result)
    return Document(title, lead, body, "matrix", "beside", under=under).to_html()


def _section(identity: str, title: str, body: str) -> str:
    return (
        f'<section id="{identity}" aria-labelledby="{identity}-title">'
        f'<h2 id="{identity}-title">{title}</h2>{body}</section>'
    )


def device_name(environment: Mapping[str, Any]) -> str:
    """What the machine is called: by its given name, its GPU where one played, its processor."""
    machine = environment["machine"]
    plays_on_cpu = (environment["provider"] or "").startswith("CPU")
    names = (machine.get("name"), None if plays_on_cpu else machine.get("gpu"), machine.get("cpu"))
    return str(next((name for name in names if name), "unknown machine"))


def busy_text(result: Mapping[str, Any]) -> str:
    """A sentence where others were at work while it was measured; else nothing.

    A cell keeps every core busy itself, so one process more than there are cores is another's.
    """
    cores = result["environment"]["machine"].get("cores")
    loads = [row["load_1min"] for row in result["cells"] if row["load_1min"] is not None]
    if not cores or not loads or max(loads) <= cores + 1:
        return ""
    return (
        f"Others were at work meanwhile (load up to {max(loads):g} on {cores} cores): the "
        "runtimes, and whether a task is live or slow, are not those of a quiet machine."
    )


def _lead(result: Mapping[str, Any]) -> str:
    counts, environment = result["counts"], result["environment"]
    states = ", ".join(
        f"{counts[state]} {state}" for state in ("ok", "not supported", "failed") if state in counts
    )
    left = counts["cells"] - counts["recorded"]
    missing = f" {left} are still to be played." if left else ""
    return f"{counts['cells']} cells on {device_name(environment)}: {states}.{missing}"


def _offers(result: Mapping[str, Any]) -> str:
    tables = []
    for name, model in result["recommended"].items():
        rows = "".join(
            f'<tr><th scope="row">{html.escape(task)}</th>'
            f'<td class="verdict {found["verdict"].replace(" ", "-")}">'
            f'<span aria-hidden="true">{_MARKS[found["verdict"]]}</span> '
            f"{html.escape(found['verdict'])}</td>"
            f"<td>{_percent(found['tempo_met'])}</td><td>{_percent(found['key_met'])}</td>"
            f"<td>{_number(found['speed'])}</td><td>{html.escape(found['why'])}</td></tr>"
            for task, found in model["tasks"].items()
        )
        head = "".join(
            f'<th scope="col">{text}</th>'
            for text in ("task", "verdict", "tempo met", "key met", "× live", "because")
        )
        tables.append(
            f'<h3>{html.escape(name)}</h3><p class="values">{html.escape(values_text(model))}</p>'
            '<div class="scroll" tabindex="0" role="region" '
            f'aria-label="tasks of {html.escape(name)}"><table class="tasks"><thead><tr>{head}</tr>'
            f"</thead><tbody>{rows}</tbody></table></div>"
        )
    rules = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>"
        for name, text in result["rules"].items()
    )
    return "".join(tables) + f"<details><summary>By which rules</summary><dl>{rules}</dl></details>"


def values_text(model: Mapping[str, Any]) -> str:
    """The recommended values of a model, in a line."""
    steps = "the model's own steps" if model["steps"] is None else f"{model['steps']} steps"
    live, longest = model["longest_live_s"], model["longest_measured_s"]
    if live is None:
        length = "no length that was measured is made in real time"
    else:
        edge = " (the longest measured)" if live == longest else ""
        length = f"up to {live:g} s in real time{edge}"
    memory = model["memory_gb"]
    room = f"; {memory:g} GB of memory" if memory is not None else ""
    return f"{steps}, batch {model['batch']}; {length}{room}."


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _footer(result: Mapping[str, Any]) -> str:
    environment = result["environment"]
    machine, versions = environment["machine"], result["versions"]
    cores, memory = machine.get("cores"), machine.get("memory_gb")
    pairs = [
        ("device", device_name(environment)),
        ("cores, memory", f"{cores}, {memory} GB" if cores else "not told"),
        ("runs on", environment["provider"] or (environment["server"] or {}).get("address", "")),
        ("made", result["created"]),
        ("command", result["command"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return facts_html(pairs)
