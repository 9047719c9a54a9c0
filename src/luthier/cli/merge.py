"""`luthier merge`: a base model and adapters → one model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.cli import common
from luthier.cli.hub_flags import MODEL_HELP, add_hub_arguments, hub_of
from luthier.errors import RequestError
from luthier.models import torch_model

if TYPE_CHECKING:
    from luthier.training.merge import MergePlan, MergeReport

HELP = "merge adapters into their base model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to merge, where to, and how."""
    parser.add_argument(
        "--base-model",
        required=True,
        metavar="MODEL",
        help=MODEL_HELP,
    )
    parser.add_argument(
        "--adapter",
        "--lora-checkpoint",
        dest="adapters",
        action="append",
        required=True,
        metavar="PATH[:WEIGHT]",
        help="an adapter (folder or file) and its strength (default 1); may be given several times",
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="the result")
    parser.add_argument(
        "--storage",
        choices=("base", "exact"),
        default="base",
        help="of the weights that change: the base's type, or exact (float32) (default: base)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare with base + adapter; exit 3 if they differ"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUTPUT_DIR where it is a merged model"
    )
    add_hub_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Merge; 0 when done, 1 no base model, 2 no valid adapter, 3 merging failed."""
    from luthier.errors import MissingExtraError

    try:
        from luthier.training.merge import merge, plan_merge
        from luthier.training.merge_adapters import Weighted
    except ModuleNotFoundError as error:
        raise MissingExtraError("luthier merge", "train") from error
    base = torch_model(args.base_model, hub_of(args))
    adapters = [Weighted(*_place_and_weight(text)) for text in args.adapters]
    settings: dict[str, Any] = {"storage": args.storage, "overwrite": args.overwrite}
    if args.dry_run:
        plan = plan_merge(base, adapters, args.output_dir, **settings)
        common.emit(args, plan.as_dict(), _plan_text(plan))
        return 0
    report = merge(
        base,
        adapters,
        args.output_dir,
        verify=args.verify,
        display=common.display(args),
        **settings,
    )
    common.emit(args, report.as_dict(), _report_text(report))
    return 0


def _place_and_weight(text: str) -> tuple[Path, float]:
    """PATH or PATH:WEIGHT, as `--lora` of `generate` reads it."""
    from luthier.music.request_lora import lora_from_text

    try:
        return lora_from_text(text)
    except ValueError as error:
        raise RequestError(str(error)) from error


def _adapter_lines(plan: MergePlan) -> list[str]:
    return [
        f"  {a.folder.name}: {a.method} of rank {a.rank}, {len(a.changes)} tensors, "
        f"weight {a.weight:g}"
        for a in plan.adapters
    ]


def _plan_text(plan: MergePlan) -> str:
    lines = [
        f"would change {len(plan.changed)} tensors of {plan.base.folder} and write "
        f"{plan.size_bytes / 1e6:.1f} MB to {plan.output_dir}",
        *_adapter_lines(plan),
        *plan.notes,
    ]
    return "\n".join(lines)


def _report_text(report: MergeReport) -> str:
    plan = report.plan
    lines = [
        f"{plan.output_dir}: {report.size_bytes / 1e6:.1f} MB, {len(plan.changed)} tensors changed",
        *_adapter_lines(plan),
    ]
    if report.rounded_away:
        lines.append(
            f"  rounding took most of the change of {report.rounded_away} tensors: "
            "--storage exact keeps it"
        )
    if report.check is not None:
        lines.append(f"  {report.check.sentence}")
    return "\n".join(lines)
