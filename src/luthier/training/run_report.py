"""`report.html` of a run: its curves and its samples, drawn again while it trains.

Audio and pictures stay files beside the page, so that drawing it is cheap; the curves are inline.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from luthier.files import write_text
from luthier.report.document import Document
from luthier.report.figures import loss_svg
from luthier.training.metrics import read_metrics

# Key of a row → title of its chart, unit.
_CHARTS = {
    "loss": ("Training loss", ""),
    "validation_loss": ("Validation loss", ""),
    "learning_rate": ("Learning rate", ""),
    "gradient_norm": ("Gradient norm, unclipped", ""),
    "samples_per_s": ("Throughput", "crops/s"),
    "memory_gb": ("Memory at most", "GB"),
}
_SHOWN = 6  # newest checkpoints whose samples are on the page
_CHART_SIZE = (360, 190)


@dataclass(frozen=True)
class RunView:
    """What the page says besides curves and samples.

    Attributes:
        title: name of the run.
        state: "running", "done" or "stopped".
        reload_s: how often the page loads itself again; None when it is final.
        max_steps: where the run is to end.
        captions: of the prompts, in the samples' order.
    """

    title: str
    state: str
    reload_s: int | None
    max_steps: int
    captions: tuple[str, ...]


def write_run_report(path: Path, view: RunView, metrics: Path, samples: Path) -> None:
    """Draw the page from the run's metrics file and its folder of samples."""
    rows = read_metrics(metrics)
    step = rows[-1]["step"] if rows else 0
    charts = "".join(_chart(rows, key) for key in _CHARTS)
    curves = f'<h2>Curves</h2><div class="charts">{charts}</div>' if charts else ""
    refresh = (
        # With scripts the page itself waits for the end of what is being listened to.
        f'<noscript><meta http-equiv="refresh" content="{view.reload_s}"></noscript>\n'
        if view.reload_s
        else ""
    )
    document = Document(
        title=view.title,
        lead=f"{view.state}: step {step} of {view.max_steps}{_left(rows, view)}",
        body=f'<main data-reload="{view.reload_s or 0}">{curves}{_listen(view, samples)}</main>',
        name="run",
        media="beside",
        kind="training run",
        head=refresh,
    )
    write_text(path, document.to_html())


def _left(rows: Sequence[dict[str, Any]], view: RunView) -> str:
    if view.state != "running" or not rows:
        return ""
    recent = [row["seconds"] for row in rows[-50:]]
    seconds = sum(recent) / len(recent) * (view.max_steps - rows[-1]["step"])
    return f", about {seconds / 60:.0f} minutes left"


def _chart(rows: Sequence[dict[str, Any]], key: str) -> str:
    points = [(row["step"], float(row[key])) for row in rows if row.get(key) is not None]
    title, unit = _CHARTS[key]
    picture = loss_svg(points, title.lower(), _CHART_SIZE)
    if not picture:
        return ""
    last = f"{points[-1][1]:.4g} {unit}".strip()
    caption = f"<figcaption>{title} <b>{last}</b></figcaption>"
    return f'<figure class="panel">{caption}{picture}</figure>'


def _listen(view: RunView, folder: Path) -> str:
    names = [path.name for path in folder.glob("step=*")] if folder.is_dir() else []
    steps = sorted(names, key=lambda name: int(name.partition("=")[2]))[-_SHOWN:]
    parts = []
    for index, caption in enumerate(view.captions):
        cards = [_card(folder, name, index) for name in ["base", *reversed(steps)]]
        if any(cards):
            title = html.escape(caption)
            parts.append(f'<h3>{title}</h3><div class="clips">{"".join(cards)}</div>')
    if not parts:
        return ""
    note = (
        '<p class="note">The same prompt and the same noise each time: the base model, then the '
        "newest first.</p>"
    )
    return f"<h2>Listen</h2>{note}{''.join(parts)}"


def _card(folder: Path, name: str, index: int) -> str:
    if not (folder / name / f"{index}.wav").is_file():
        return ""
    place = f"{folder.name}/{quote(name)}/{index}"
    label = "base model" if name == "base" else name.replace("=", " ")
    return (
        f'<figure class="panel clip"><img src="{place}.png" alt="spectrogram, {label}">'
        f"<figcaption>{label}</figcaption>"
        f'<audio controls preload="metadata" src="{place}.wav" aria-label="{label}"></audio>'
        "</figure>"
    )
