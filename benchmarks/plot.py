"""Draw docs/img/*.svg: the pipeline, and what results/*.json hold, in light and dark.

python benchmarks/plot.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from common import RESULTS

from luthier.audio.keynames import ALL_KEYS, parse_key
from luthier.files import read_json, write_text

IMAGES = Path(__file__).parent.parent / "docs" / "img"
FONT = "'Avenir Next','Segoe UI',system-ui,'Helvetica Neue','Noto Sans',sans-serif"
STYLE = f"""
text {{ font-family: {FONT}; fill: #16201f; }} .soft {{ fill: #566462; }} .line {{ stroke: #d3dad7;
fill: none; }} .axis {{ stroke: #566462; fill: none; }} .hit {{ fill: #0b6660; }} .miss {{ fill:
none; stroke: #a8590a; stroke-width: 1.6; }} .band {{ fill: #0b6660; opacity: .13; }} .cell {{ fill:
#0b6660; }} .off {{ fill: #a8590a; }} @media (prefers-color-scheme: dark) {{
  text {{ fill: #e5ece9; }} .soft {{ fill: #94a3a0; }} .line {{ stroke: #2a3534; }} .axis {{ stroke:
  #94a3a0; }} .hit, .band, .cell {{ fill: #5fc9b9; }} .miss {{ stroke: #e6a94a; }} .off {{ fill:
  #e6a94a; }}
}}"""
# What each stage of the pipeline does, and what it leaves behind.
STAGES = (
    ("recordings", "a folder"),
    ("curate", "clean audio"),
    ("data set", "licensed, split"),
    ("train", "a LoRA adapter"),
    ("evaluate", "FAD, tempo, key"),
    ("merge", "one model"),
    ("export", "ONNX, int8"),
    ("play", "no torch"),
)
NECK_STYLE = """
.neck { fill: #2c2320; } .string { stroke: #57473f; } .fret { fill: #c9b78f; } .pearl { fill:
#f3ecdc; }
.name { fill: #f7f1e4; font-weight: 600; } .made { fill: #c3b3a0; }"""


def document(width: int, height: int, title: str, body: Sequence[str], style: str = "") -> str:
    """An SVG document with the shared style; `title` is what a screen reader says."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style>{''.join(body)}</svg>\n"
    )


def text(
    x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", kind: str = ""
) -> str:
    """One line of text; `kind` is its CSS class."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" class="{kind}">'
        f"{escape(words)}</text>"
    )


def pipeline_svg() -> str:
    """The chain as the neck of a guitar: one fret a stage, each narrower than the one before."""
    width, height, nut = 960, 132, 14
    weights = [2 ** (-i / 24) for i in range(len(STAGES))]
    scale = (width - nut) / sum(weights)
    body = [f'<rect class="neck" width="{width}" height="{height}" rx="6"/>']
    body += [
        f'<path class="string" d="M0 {22 + 22 * i}H{width}" stroke-width="{0.8 + 0.35 * i:.2f}"/>'
        for i in range(5)
    ]
    body.append(f'<rect class="pearl" width="{nut - 4}" height="{height}" rx="3"/>')
    x = float(nut)
    for index, ((name, made), weight) in enumerate(zip(STAGES, weights, strict=True)):
        middle = x + weight * scale / 2
        if index in (2, 4, 6):
            body.append(f'<circle class="pearl" cx="{middle:.1f}" cy="110" r="6"/>')
        body.append(text(middle, 60, name, size=18, anchor="middle", kind="name"))
        body.append(text(middle, 80, made, size=12, anchor="middle", kind="made"))
        x += weight * scale
        if index < len(STAGES) - 1:
            body.append(f'<rect class="fret" x="{x - 1.5:.1f}" width="3" height="{height}"/>')
    title = "The pipeline: " + ", ".join(f"{name} ({made})" for name, made in STAGES)
    return document(width, height, title, body, NECK_STYLE)


def tempo_svg(result: dict[str, Any]) -> str:
    """Tempo asked for against tempo heard, with the bands that count as met."""
    part, tolerance = result["designs"]["tempo"]["tempo"], result["tempo_tolerance"]
    left, top, size, low, high, ceiling = 84, 64, 408, 50.0, 150.0, 320.0

    def x(bpm: float) -> float:
        return left + (bpm - low) / (high - low) * size

    def y(bpm: float) -> float:
        return top + size * (1 - min(ceiling, bpm) / ceiling)

    body = []
    for factor in (0.5, 1.0, 2.0):
        corners = ((low, 1), (high, 1), (high, -1), (low, -1))
        edge = [(x(b), y(b * factor * (1 + side * tolerance))) for b, side in corners]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in edge)
        body.append(f'<polygon class="band" points="{points}"/>')
    for bpm in range(60, 150, 20):
        body.append(f'<path class="line" d="M{x(bpm):.1f} {top}V{top + size}"/>')
        body.append(text(x(bpm), top + size + 16, str(bpm), size=11, anchor="middle", kind="soft"))
    for bpm in range(0, 321, 40):
        body.append(f'<path class="line" d="M{left} {y(bpm):.1f}H{left + size}"/>')
        body.append(text(left - 8, y(bpm) + 4, str(bpm), size=11, anchor="end", kind="soft"))
    for check in part["checks"]:
        place = f'cx="{x(check["requested_bpm"]):.1f}" cy="{y(check["measured_bpm"]):.1f}"'
        body.append(f'<circle class="{"hit" if check["passed"] else "miss"}" {place} r="5"/>')
    head = f"{part['passed']} of {part['n']} tempi met ({result['model']})"
    how = "bpm; across: asked for; up: heard; bands: met"
    body += [text(left, 26, head, size=17), text(left, 48, how, size=12, kind="soft")]
    return document(left + size + 20, top + size + 34, head, body)


def keys_svg(result: dict[str, Any]) -> str:
    """Key asked for against key heard; by fifths, so near misses lie beside the diagonal."""
    part = result["designs"]["key"]["key"]
    order = [k.name for k in sorted(ALL_KEYS, key=lambda k: (k.mode == "minor", _fifths(k.name)))]
    left, top, cell = 84, 64, 17
    size = cell * len(order)
    body = []
    for index, name in enumerate(order):
        at = (index + 0.5) * cell
        short = name.replace(" major", "").replace(" minor", "m")
        body.append(text(left - 8, top + at + 4, short, size=11, anchor="end", kind="soft"))
        turned = f'transform="translate({left + at + 4:.1f} {top + size + 8}) rotate(-90)"'
        body.append(f"<g {turned}>{text(0, 0, short, size=11, anchor='end', kind='soft')}</g>")
        edge = (
            f"M{left} {top + index * cell}H{left + size}M{left + index * cell} {top}V{top + size}"
        )
        body.append(f'<path class="line" d="{edge}" stroke-width=".6"/>')
        corner = f'x="{left + index * cell}" y="{top + index * cell}"'
        body.append(f'<rect class="band" {corner} width="{cell}" height="{cell}"/>')
    half = f"M{left} {top + size / 2}H{left + size}M{left + size / 2} {top}V{top + size}"
    body.append(f'<path class="axis" d="{half}" stroke-width=".8"/>')
    body.append(f'<rect class="line" x="{left}" y="{top}" width="{size}" height="{size}"/>')
    for check in part["checks"]:
        row, column = order.index(check["requested"]), order.index(check["measured"])
        place = f'cx="{left + (column + 0.5) * cell}" cy="{top + (row + 0.5) * cell}"'
        body.append(f'<circle class="{"hit" if check["passed"] else "miss"}" {place} r="5"/>')
    head = f"{part['passed']} of {part['n']} keys met ({result['model']})"
    body.append(text(left, 26, head, size=17))
    body.append(
        text(left, 48, "rows: asked for; columns: heard; chance: 1 of 24", size=12, kind="soft")
    )
    return document(left + size + 20, top + size + 46, head, body)


def _fifths(name: str) -> int:
    """Where a key stands on the circle of fifths, relative minors beside their majors."""
    key = parse_key(name)
    tonic = key.tonic if key.mode == "major" else key.relative.tonic
    return tonic * 7 % 12


def main() -> None:
    """Draw what there are results for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=IMAGES)
    args = parser.parse_args()
    pictures = {"pipeline": pipeline_svg()}
    adherence = args.results / "adherence.json"
    if adherence.is_file():
        result = read_json(adherence)
        pictures |= {"tempo": tempo_svg(result), "keys": keys_svg(result)}
    for name, picture in pictures.items():
        write_text(args.out / f"{name}.svg", picture)
        print(args.out / f"{name}.svg", f"{len(picture) / 1000:.1f} kB")


if __name__ == "__main__":
    main()
