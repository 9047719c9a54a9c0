"""`scripts/export_onnx.py`: a merged model → ONNX graphs.

Exit codes: 0 done, 1 model load failed, 2 export failed, 3 verification failed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from luthier.cli import export
from luthier.cli.hub_flags import MODEL_HELP
from luthier.cli.scripts.common import add_common_flags, run_script, script_parser
from luthier.errors import ExportError, LuthierError, ModelError, OutputError, PathError

LOAD_EXIT, EXPORT_EXIT = 1, 2
DEFAULT_OPSET = 17


def build_parser() -> argparse.ArgumentParser:
    """The script's flags."""
    parser = script_parser(
        "export_onnx.py",
        "Export a merged model to ONNX. Exit codes: 0 done, 1 model load failed, 2 export failed, "
        "3 verification failed.",
    )
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help=f"the merged model: {MODEL_HELP}"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where to write the graphs"
    )
    parser.add_argument(
        "--precision",
        required=True,
        choices=("fp16", "int8", "int4"),
        help="the tier; some components have a floor",
    )
    parser.add_argument(
        "--opset",
        type=int,
        metavar="N",
        help=f"ONNX opset (default: {DEFAULT_OPSET}; int4 needs 21: raised when left out)",
    )
    parser.add_argument(
        "--calibration-data",
        type=Path,
        metavar="FILE",
        help='JSON with prompts, {"prompts": [...]}; required for int4',
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare the graphs with torch, and their music with float32's",
    )
    add_common_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run_script(_run, build_parser().parse_args(argv), _exit_code)


def _run(args: argparse.Namespace) -> int:
    args.out, args.exporter, args.int8, args.planner = args.output, "trace", "dynamic", None
    if args.opset is None and args.precision != "int4":
        args.opset = DEFAULT_OPSET
    return export.run(args)


def _exit_code(error: LuthierError) -> int:
    if isinstance(error, ExportError | OutputError):
        return error.exit_code
    return LOAD_EXIT if isinstance(error, ModelError | PathError) else EXPORT_EXIT


if __name__ == "__main__":
    raise SystemExit(main())
