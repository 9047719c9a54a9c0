"""`scripts/merge_lora.py`: a base model and a LoRA checkpoint → one model.

Exit codes: 0 done, 1 base model not found, 2 LoRA checkpoint invalid, 3 merge failed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from luthier.cli import merge
from luthier.cli.scripts.common import add_common_flags, run_script, script_parser
from luthier.errors import LuthierError


def build_parser() -> argparse.ArgumentParser:
    """The script's flags."""
    parser = script_parser(
        "merge_lora.py",
        "Merge a LoRA checkpoint into its base model. The result loads in diffusers and needs no "
        "adapter. Exit codes: 0 done, 1 base model not found, 2 LoRA checkpoint invalid, 3 merge "
        "failed.",
    )
    parser.add_argument(
        "--base-model", required=True, metavar="DIR", help="the base model; mini is the built-in"
    )
    parser.add_argument(
        "--lora-checkpoint", required=True, metavar="DIR", help="the trained LoRA checkpoint"
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="a new folder for the result"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="run the merged model and compare it with base + adapter",
    )
    add_common_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run_script(_run, build_parser().parse_args(argv), _exit_code)


def _run(args: argparse.Namespace) -> int:
    # An absolute path cannot be mistaken for DIR:WEIGHT: a strength is the command's, not ours.
    args.adapters = [f"{Path(args.lora_checkpoint).expanduser().absolute()}:1"]
    args.storage, args.overwrite = "base", False
    return merge.run(args)


def _exit_code(error: LuthierError) -> int:
    return error.exit_code  # those of base, adapter and merge are the contract's


if __name__ == "__main__":
    raise SystemExit(main())
