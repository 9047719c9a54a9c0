"""`luthier merge`: a base model and a LoRA checkpoint → one model."""

from __future__ import annotations

import argparse
from pathlib import Path

from luthier.cli import common

HELP = "merge a LoRA adapter into its base model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to merge, where to, and how."""
    parser.add_argument(
        "--base-model", required=True, metavar="MODEL", help="mini or a model folder"
    )
    parser.add_argument(
        "--lora-checkpoint", type=Path, required=True, metavar="DIR", help="a PEFT adapter"
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="the result")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="X", help="strength (default: 1, as trained)"
    )
    parser.add_argument(
        "--storage",
        choices=("exact", "base"),
        default="exact",
        help="of changed weights whose base is in half precision: exact (float32) or as the base",
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare with base + adapter; exit 3 if they differ"
    )


def run(args: argparse.Namespace) -> int:
    """Merge; 0 when done, 1 no base model, 2 no valid adapter, 3 merging failed."""
    from luthier.errors import MissingExtraError

    try:
        from luthier.training.merge import merge, read_updates
    except ModuleNotFoundError as error:
        raise MissingExtraError("luthier merge", "train") from error
    from luthier.music.mini import torch_folder

    base = torch_folder() if args.base_model == "mini" else Path(args.base_model)
    if args.dry_run:
        from luthier.music.spec import load_spec

        name = load_spec(base).name
        count = len(read_updates(args.lora_checkpoint))
        plan = {"base_model": str(base), "tensors": count, "output_dir": str(args.output_dir)}
        common.emit(args, plan, f"would change {count} tensors of {name}, to {args.output_dir}")
        return 0
    report = merge(
        base,
        args.lora_checkpoint,
        args.output_dir,
        scale=args.scale,
        verify=args.verify,
        storage=args.storage,
        display=common.display(args),
    )
    lines = [
        f"{report.output_dir}: {report.size_bytes / 1e6:.1f} MB",
        f"  {report.merged_tensors} tensors of rank {report.rank}, scaled by {report.scaling:.3g}",
    ]
    if report.max_abs_difference is not None:
        lines.append(
            f"  differs from base + adapter by at most {report.max_abs_difference:.1e} "
            f"(allowed {report.tolerance:.0e})"
        )
    common.emit(args, report.as_dict(), "\n".join(lines))
    return 0
