"""What an export says of itself: `report.json`, and `README.md` with the head that hubs read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from luthier.files import write_json, write_text
from luthier.music.spec import ModelSpec

REPORT_NAME, CARD_NAME = "report.json", "README.md"


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write `report.json`."""
    write_json(folder / REPORT_NAME, _finite(report))


def write_card(folder: Path, spec: ModelSpec, report: Mapping[str, Any]) -> None:
    """Write the model card: what the graphs are, how large, how close, how to play them."""
    lines = [
        "---",
        "library_name: onnxruntime",
        "pipeline_tag: text-to-audio",
        "tags: [music, onnx, ace-step]",
        f"model_name: {json.dumps(spec.name, ensure_ascii=False)}",
        "---",
        "",
        f"# {spec.name}, ONNX, {report['tier']}",
        "",
        f"Music at {spec.sample_rate} Hz, up to {_seconds(spec)} s. Tasks: "
        f"{', '.join(spec.tasks)}. "
        "The graphs need ONNX Runtime and no torch; their inputs and outputs are in "
        "`io_contract_*.json`.",
        "",
        "```",
        'luthier generate "calm piano" --model DIR',
        "```",
        "",
        "## Graphs",
        "",
        "Difference to the torch model at other lengths than the graph was traced with.",
        "",
        "| graph | precision | MB | rmse | maximum | SNR, dB |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *_rows(report),
        "",
        "## Sound",
        "",
        *_quality(report["quality"]),
        "",
        "What the model was made from, and under which licences, is in `run.json`; "
        "`luthier trace DIR` walks it back.",
    ]
    write_text(folder / CARD_NAME, "\n".join(lines) + "\n")


def _seconds(spec: ModelSpec) -> str:
    return f"{spec.max_frames / spec.frames_per_second:g}"


def _rows(report: Mapping[str, Any]) -> Iterator[str]:
    for graph in report["graphs"]:
        parity = graph["parity"]
        numbers = ("not measured | | ",)
        if parity:
            numbers = (f"{parity['rmse']:.1e} | {parity['max_abs']:.1e} | {parity['snr_db']:.1f}",)
        size = f"{graph['size_bytes'] / 1e6:.2f}"
        yield f"| {graph['name']} | {graph['precision']} | {size} | {numbers[0]} |"
    for planner in report["planners"]:
        size = f"{planner['size_bytes'] / 1e6:.2f}"
        yield f"| {planner['tag']} | {planner['precision']} | {size} | | | |"


def _quality(quality: Mapping[str, Any] | None) -> Iterator[str]:
    if quality is None:
        yield "Not measured: `luthier export --verify` does."
        return
    yield (
        f"{quality['clips']} clips of fixed prompts, played by these graphs and by float32 from "
        f"the same noise; distances ({quality['embedding']}) to float32's music from other noise. "
        f"Allowed: {quality['tolerance']:.0%} worse."
    )
    yield ""
    yield "| | float32 | these |"
    yield "| --- | ---: | ---: |"
    yield f"| FAD | {quality['fad_fp32']:.3f} | {quality['fad_tier']:.3f} |"
    yield f"| FAD to float32, same noise | 0 | {quality['fad_between']:.3f} |"
    if quality["clap_tier"] is not None:
        yield f"| CLAP | {quality['clap_fp32']:.3f} | {quality['clap_tier']:.3f} |"


def _finite(value: Any) -> Any:
    """JSON has no infinity; a path is its text."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    return str(value) if isinstance(value, Path) else value
