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
from luthier.report.figures import loss_svg
from luthier.training.metrics import read_metrics

# Key of a row → title of its chart, unit.
_CHARTS = {
    "loss": ("Training loss", ""),
    "validation_loss": ("Validation loss", ""),
    "learning_rate": ("Learning rate", ""),
    "gradient_norm": ("Gradient norm, before clipping", ""),
    "samples_per_s": ("Throughput", "crops a second"),
    "memory_gb": ("Memory, the most so far", "GB"),
}
_SHOWN = 6  # newest checkpoints whose samples are on the page
_STYLE = """
:root { color-scheme: light dark; --ink: #16201f; --soft: #566462; --line: #d3dad7;
  --ground: #eef1ef; --panel: #fbfcfb; --accent: #0b6660; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5ece9; --soft: #94a3a0; --line: #2a3534;
  --ground: #0e1413; --panel: #161e1d; --accent: #5fc9b9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 28px; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 30px; margin: 0; } h2 { font-size: 20px; margin: 36px 0 12px; }
p, figcaption, small { color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 16px; }
figure { margin: 0; padding: 12px; background: var(--panel); border-radius: 8px; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--line); } .raw { fill: none; stroke: var(--line); }
.line { fill: none; stroke: var(--accent); stroke-width: 2; }
.clips { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 16px; }
.clips img, audio { width: 100%; } .clips img { image-rendering: pixelated; height: 120px; }
"""


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
    refresh = f'<meta http-equiv="refresh" content="{view.reload_s}">' if view.reload_s else ""
    step = rows[-1]["step"] if rows else 0
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{html.escape(view.title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{html.escape(view.title)}</h1>"
        f"<p>{html.escape(view.state)}: step {step} of {view.max_steps}{_left(rows, view)}</p>"
        f'<h2>Curves</h2><div class="charts">{"".join(_chart(rows, key) for key in _CHARTS)}</div>'
        f"{_listen(view.captions, samples)}</body></html>\n"
    )
    write_text(path, page)


def _left(rows: Sequence[dict[str, Any]], view: RunView) -> str:
    if view.state != "running" or not rows:
        return ""
    recent = [row["seconds"] for row in rows[-50:]]
    seconds = sum(recent) / len(recent) * (view.max_steps - rows[-1]["step"])
    return f", about {seconds / 60:.0f} minutes left"


def _chart(rows: Sequence[dict[str, Any]], key: str) -> str:
    points = [(row["step"], float(row[key])) for row in rows if row.get(key) is not None]
    title, unit = _CHARTS[key]
    picture = loss_svg(points, title.lower())
    if not picture:
        return ""
    last = f"{points[-1][1]:.4g} {unit}".strip()
    return f"<figure><figcaption>{title}: {last}</figcaption>{picture}</figure>"


def _listen(captions: Sequence[str], folder: Path) -> str:
    names = [path.name for path in folder.glob("step=*")] if folder.is_dir() else []
    steps = sorted(names, key=lambda name: int(name.partition("=")[2]))[-_SHOWN:]
    parts = []
    for index, caption in enumerate(captions):
        cards = [_card(folder, name, index) for name in ["base", *reversed(steps)]]
        if any(cards):
            title = html.escape(caption)
            parts.append(f'<h3>{title}</h3><div class="clips">{"".join(cards)}</div>')
    if not parts:
        return ""
    note = "<p>The same prompt and the same noise each time; the newest first after the base.</p>"
    return f"<h2>Listen</h2>{note}{''.join(parts)}"


def _card(folder: Path, name: str, index: int) -> str:
    if not (folder / name / f"{index}.wav").is_file():
        return ""
    place = f"{folder.name}/{quote(name)}/{index}"
    label = "base model" if name == "base" else name.replace("=", " ")
    return (
        f"<figure><figcaption>{label}</figcaption>"
        f'<img src="{place}.png" alt="spectrogram, {label}">'
        f'<audio controls preload="none" src="{place}.wav" aria-label="{label}"></audio></figure>'
    )
