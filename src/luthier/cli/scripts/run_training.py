"""`scripts/run_training.sh`: a data set → checkpoints of an ACE-Step adapter, resumable.

Exit codes: 0 trained, 1 fatal or nothing trained, 3 tracks without permission for AI training,
128 + signal when it was stopped and saved.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from luthier.cli.scripts.common import add_common_flags, folder_from, run_script, script_parser

CONFIG_NAME = "lofi_lora_config.json"
_MAX_STEPS = 100_000


def build_parser() -> argparse.ArgumentParser:
    """The script's flags."""
    parser = script_parser(
        "run_training.sh",
        "Fine-tune ACE-Step on a data set. Checkpoints go to "
        "$LOFI_CHECKPOINT_DIR/{exp-name}/checkpoints/epoch=E-step=N_lora/.",
    )
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="the data set")
    parser.add_argument("--exp-name", required=True, metavar="NAME", help="name of the run")
    config = folder_from("LOFI_CONFIG_DIR") / CONFIG_NAME
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings as JSON (default: {config})"
    )
    checkpoints = folder_from("ACE_STEP_DIR") / "checkpoints"
    parser.add_argument(
        "--checkpoint-dir",
        default=str(checkpoints),
        metavar="DIR",
        help=f"the base model; mini is the built-in one (default: {checkpoints})",
    )
    parser.add_argument(
        "--max-steps", type=int, metavar="N", help=f"optimiser steps (default: {_MAX_STEPS})"
    )
    parser.add_argument("--learning-rate", type=float, metavar="RATE", help="peak learning rate")
    parser.add_argument(
        "--gradient-clip-val", type=float, metavar="NORM", help="largest gradient norm"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest whole checkpoint"
    )
    parser.add_argument(
        "--resume-from", type=int, metavar="STEP", help="go on from the checkpoint of this step"
    )
    add_common_flags(parser)
    parser.set_defaults(after_stop=_after_stop)
    return parser


def _after_stop(args: argparse.Namespace) -> str:
    from luthier.cli import train

    args.logs_dir = folder_from("LOFI_CHECKPOINT_DIR")
    return train.after_stop(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run_script(_run, build_parser().parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    from luthier.cli import train
    from luthier.errors import ModelError

    base = Path(args.checkpoint_dir).expanduser()
    if args.checkpoint_dir != "mini" and not base.is_dir():
        raise ModelError(
            f"there is no base model in {base}: download ACE-Step/Ace-Step1.5 from Hugging Face "
            "into it, name another folder with --checkpoint-dir, or take the built-in model with "
            "--checkpoint-dir mini."
        )
    args.model = args.checkpoint_dir if args.checkpoint_dir == "mini" else str(base)
    args.logs_dir = folder_from("LOFI_CHECKPOINT_DIR")
    args.cache_dir = None
    # A resumed run has its settings in the checkpoint; what is not said again stays as it was.
    if not args.resume and args.resume_from is None:
        args.config = args.config or folder_from("LOFI_CONFIG_DIR") / CONFIG_NAME
        args.max_steps = args.max_steps or _MAX_STEPS
    args.gradient_clip = args.gradient_clip_val
    for name in ("max_steps", "learning_rate", "gradient_clip"):
        if getattr(args, name) is None:
            delattr(args, name)  # only what was given is a setting
    return train.run(args)


if __name__ == "__main__":
    raise SystemExit(main())
