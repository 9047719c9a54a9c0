"""`luthier plan`: a few words → a plan of the music, by the 5 Hz language model on ONNX Runtime."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli import common
from luthier.errors import RequestError

if TYPE_CHECKING:
    from luthier.music.planner.planner import Planner

HELP = "plan music: tempo, key, caption, lyrics and audio codes"
_WITH_PLANNER = (
    "ACE-Step 1.5's language models (acestep-5Hz-lm-0.6B, -1.7B, -4B) are planners: export one "
    "with luthier, and name its folder"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of a request, and which planner to ask."""
    from luthier.music.planner.request import PlanRequest

    parser.add_argument("prompt", nargs="?", help=PlanRequest.model_fields["prompt"].description)
    for name, field in PlanRequest.model_fields.items():
        flag = "--" + name.removesuffix("_s").replace("_", "-").replace("batch-size", "batch")
        if field.annotation is bool:
            parser.add_argument(
                flag,
                dest=name,
                action=argparse.BooleanOptionalAction if field.default else "store_true",
                default=None,
                help=field.description,
            )
        elif name != "prompt":
            metavar = name.removesuffix("_s").upper()
            parser.add_argument(flag, dest=name, metavar=metavar, help=field.description)
    parser.add_argument(
        "--model", default="mini", metavar="MODEL", help="a folder with an exported planner"
    )
    parser.add_argument(
        "--variant", metavar="SIZE", help="0.6B, 1.7B or 4B, where there are several"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all cores)")
    parser.add_argument(
        "--format", choices=("yaml", "json"), default="yaml", help="how to print (default yaml)"
    )


def run(args: argparse.Namespace) -> int:
    """Plan and print; see `luthier plan --help`."""
    from luthier.music.planner.request import PlanRequest, plan_request_from

    values = {name: getattr(args, name) for name in PlanRequest.model_fields}
    request = plan_request_from({k: v for k, v in values.items() if v is not None})
    planner = open_planner(args.model, args.variant, args.threads)
    if args.dry_run:
        variant = planner.lm.contract.variant
        text = f"would make {request.batch_size} plan(s) with the {variant} planner"
        common.emit(args, {"request": request.model_dump(mode="json")}, text)
        return 0
    plans = planner.plan(request, common.display(args))
    if args.json or args.format == "json":
        rows = [plan.as_dict() for plan in plans]
        sys.stdout.write(json.dumps({"plans": rows}, ensure_ascii=False, indent=2) + "\n")
    else:
        common.emit(args, {}, "---\n".join(plan.as_yaml() for plan in plans).rstrip())
    return 0


def open_planner(model: str, variant: str | None, threads: int | None) -> Planner:
    """The planner of a model folder; a `RequestError` for the built-in model, which has none."""
    from luthier.music.planner.planner import Planner

    if model == "mini":
        raise RequestError(f"the built-in model mini has no planner. {_WITH_PLANNER}.")
    if threads is not None and threads < 1:
        raise RequestError(f"--threads is {threads}: it must be at least 1.")
    return Planner(Path(model), variant, threads)
