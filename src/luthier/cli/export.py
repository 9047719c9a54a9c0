"""`luthier export`: a model folder → ONNX graphs that play without torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli import common
from luthier.cli.hub_flags import MODEL_HELP, add_hub_arguments, hub_of
from luthier.models import torch_model

if TYPE_CHECKING:
    from luthier.music.export.export import ExportReport

HELP = "turn a model into ONNX graphs that play without torch"
DEFAULT_OUT = Path("artifacts/onnx_runtime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to export, where to, and how small."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_OUT,
        metavar="DIR",
        help=f"where to write (default: {DEFAULT_OUT})",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8", "int4"),
        default="fp32",
        help="of the weights; some components have a floor (default: fp32)",
    )
    parser.add_argument(
        "--opset", type=int, help="ONNX opset, 17 to 21 (default: 18; with int4 21, its least)"
    )
    add_tier_arguments(parser)
    parser.add_argument(
        "--exporter",
        choices=("trace", "dynamo"),
        default="trace",
        help="how torch becomes ONNX: trace is fast, dynamo follows control flow",
    )
    parser.add_argument(
        "--planner",
        action="append",
        metavar="MODEL",
        help="a 5 Hz language model to export besides, a folder or of the hub; may be repeated "
        "(default: those that lie beside an original checkpoint)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare every graph with torch, and the music with float32's; exit 3 when one is "
        "too far off",
    )


def add_tier_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides how weights are rounded."""
    parser.add_argument(
        "--calibration-data",
        type=Path,
        metavar="FILE",
        help='JSON with prompts, {"prompts": [...]}: needed for int4 and for --int8 static',
    )
    parser.add_argument(
        "--int8",
        choices=("dynamic", "weight-only", "static"),
        default="dynamic",
        help="how 8-bit matrices are multiplied: activations scaled as they come (fastest), kept "
        "in blocks (closest), or by calibrated scales",
    )
    add_hub_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Export; see `luthier export --help`."""
    from luthier.errors import MissingExtraError
    from luthier.output_folder import check_output

    read = [args.model, *(args.planner or ()), args.calibration_data]
    check_output(args.out, "export", [path for path in read if path])
    try:
        from luthier.music.export.export import export_model
        from luthier.music.export.options import ExportOptions
        from luthier.music.torch.model_folder import open_model
    except ModuleNotFoundError as error:
        raise MissingExtraError("luthier export", "train") from error
    hub = hub_of(args)
    options = ExportOptions(
        precision=args.precision,
        opset=args.opset,
        verify=args.verify,
        exporter=args.exporter,
        int8=args.int8,
        calibration=args.calibration_data,
        planners=tuple(torch_model(p, hub) for p in args.planner) if args.planner else None,
    )
    folder = torch_model(args.model, hub)
    if args.dry_run:
        settled = options.settled()
        model = open_model(folder)
        plan = {"model": str(args.model), "out": str(args.out), "name": model.spec.name}
        text = f"would export {args.model} in {args.precision} to {args.out}"
        common.emit(args, plan | {"options": settled.as_dict()}, text)
        return 0
    report = export_model(
        folder,
        args.out,
        precision=options.precision,
        opset=options.opset,
        verify=options.verify,
        exporter=options.exporter,
        options=options,
        display=common.display(args),
    )
    common.emit(args, report.as_dict(), as_text(report))
    return 0


def as_text(report: ExportReport) -> str:
    """What an export wrote, a line a graph."""
    lines = [f"{report.folder}: {report.size_bytes / 1e6:.2f} MB, opset {report.opset}"]
    for g in report.graphs:
        parity = f"  rmse {g.parity.rmse:.1e}  snr {g.parity.snr_db:5.1f} dB" if g.parity else ""
        lines.append(f"  {g.name:<26} {g.precision:<5} {g.size_bytes / 1e6:8.2f} MB{parity}")
    for p in report.planners:
        lines.append(f"  {p.tag:<26} {p.precision:<5} {p.size_bytes / 1e6:8.2f} MB")
    if report.quality:
        q = report.quality
        lines.append(f"  FAD {q.fad_tier:.3f}, of float32 {q.fad_fp32:.3f} ({q.embedding})")
        if q.clap_tier is not None:
            lines.append(f"  CLAP {q.clap_tier:.3f}, of float32 {q.clap_fp32:.3f}")
    return "\n".join([*lines, *(f"notice: {notice}" for notice in report.notices)])
