"""`scripts/validate_checkpoint.py`: a checkpoint against real tracks, or several, ranked.

Exit codes: 0 done, 1 fatal; with --require-gates, 2 where a gate is not passed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from luthier.cli import evaluate as command
from luthier.cli.compare import compare
from luthier.cli.scripts.common import add_common_flags, run_script, script_parser

_PROGRAM = "validate_checkpoint.py"
_COMPARE = "compare"
_SWITCHES = ("--json", "--verbose", "-v", "--quiet", "-q", "--dry-run")


def build_parser() -> argparse.ArgumentParser:
    """The flags without a sub-command."""
    parser = script_parser(
        _PROGRAM,
        "Measure a checkpoint against validation audio: Fréchet audio distance, CLAP score, style "
        f"coverage and more. '{_PROGRAM} {_COMPARE} --help' is about ranking several.",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="DIR",
        help="LoRA checkpoint, or a folder of generated audio",
    )
    parser.add_argument(
        "--require-gates",
        action="store_true",
        help=f"exit {command.GATE_EXIT} when a gate that could be measured is not passed",
    )
    _add_shared(parser)
    return parser


def build_compare_parser() -> argparse.ArgumentParser:
    """The flags of `compare`."""
    parser = script_parser(
        f"{_PROGRAM} {_COMPARE}", "Rank checkpoints against validation audio and name the best."
    )
    parser.add_argument(
        "--checkpoints",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="LoRA checkpoints, or folders of generated audio",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the ranking as JSON")
    _add_shared(parser)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--validation-set",
        type=Path,
        required=True,
        metavar="DIR",
        help="validation audio: a folder, or a data set with a validation part",
    )
    command.add_sample_arguments(parser)
    command.add_measure_arguments(parser)
    add_common_flags(parser)
    parser.set_defaults(after_stop=command.after_stop)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # The contract has flags both with and without a sub-command, which argparse cannot mix; common
    # switches may stand before it.
    rest = [word for word in words if word not in _SWITCHES]
    if rest[:1] == [_COMPARE]:
        words.remove(_COMPARE)
        return run_script(_compare, build_compare_parser().parse_args(words))
    return run_script(_validate, build_parser().parse_args(words))


def _validate(args: argparse.Namespace) -> int:
    """The command's own work, under the contract's names."""
    args.generated, args.reference, args.checkpoint = args.checkpoint, args.validation_set, None
    args.requests = args.out = args.baseline = None
    return command.run(args)


def _compare(args: argparse.Namespace) -> int:
    return compare(args, args.checkpoints, args.validation_set)
