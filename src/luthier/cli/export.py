"""`luthier export`: a torch model folder → ONNX graphs that play without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from luthier.cli import common

HELP = "turn a model into ONNX graphs that play without torch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to export, where to, and how small."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder (torch)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="of the weights; some components have a floor (default fp32)",
    )
    parser.add_argument("--opset", type=int, default=18, help="ONNX opset, 18 or newer")
    parser.add_argument(
        "--exporter",
        choices=("trace", "dynamo"),
        default="trace",
        help="how torch becomes ONNX: trace is fast, dynamo follows control flow",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare every graph with torch; exit 3 when one differs",
    )


def run(args: argparse.Namespace) -> int:
    """Export; see `luthier export --help`."""
    from luthier.errors import MissingExtraError

    try:
        from luthier.export.export import export_model
    except ModuleNotFoundError as error:
        raise MissingExtraError("luthier export", "train") from error
    if args.dry_run:
        text = f"would export {args.model} in {args.precision} to {args.out}"
        common.emit(args, {"model": str(args.model), "out": str(args.out)}, text)
        return 0
    report = export_model(
        args.model,
        args.out,
        precision=args.precision,
        opset=args.opset,
        verify=args.verify,
        exporter=args.exporter,
        display=common.display(args),
    )
    rows = [
        f"  {g.name:<26} {g.precision:<5} {g.size_bytes / 1e6:8.2f} MB"
        + (f"  rmse {g.parity.rmse:.1e}  snr {g.parity.snr_db:5.1f} dB" if g.parity else "")
        for g in report.graphs
    ]
    total = f"{report.folder}: {report.size_bytes / 1e6:.2f} MB"
    common.emit(args, report.as_dict(), "\n".join([total, *rows]))
    return 0
