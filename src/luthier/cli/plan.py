"""`luthier plan`: a few words → a plan of the music, by the 5 Hz language model on ONNX Runtime."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from luthier.cli import common
from luthier.cli.hub_flags import add_hub_arguments, hub_of
from luthier.errors import RequestError
from luthier.models import BUILT_IN, is_built_in, planner_model, playable_model

if TYPE_CHECKING:
    from luthier.music.planner.planner import Planner

HELP = "plan music: tempo, key, caption, lyrics and audio codes"


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
        "--model",
        default=BUILT_IN,
        metavar="MODEL",
        help="a folder with an exported planner, or one of Hugging Face's hub: owner/name",
    )
    parser.add_argument(
        "--variant", metavar="SIZE", help="0.6B, 1.7B or 4B, where there are several"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all cores)")
    parser.add_argument(
        "--format", choices=("yaml", "json"), default="yaml", help="how to print (default yaml)"
    )
    add_hub_arguments(parser, plays=True)


def run(args: argparse.Namespace) -> int:
    """Plan and print; see `luthier plan --help`."""
    from luthier.music.planner.request import PlanRequest, plan_request_from

    values = {name: getattr(args, name) for name in PlanRequest.model_fields}
    request = plan_request_from({k: v for k, v in values.items() if v is not None})
    planner = open_planner(args, args.model, args.variant)
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


def open_planner(
    args: argparse.Namespace, model: str, variant: str | None, *, of_music: bool = False
) -> Planner:
    """The planner of a model; a `RequestError` for the built-in model, which has none.

    Args:
        args: with `threads`, and how the hub is asked.
        model: as the user typed it.
        variant: where there are several.
        of_music: `model` is one that plays, and may have a planner besides.
    """
    from luthier.music.planner.planner import Planner

    if of_music and not is_built_in(model):
        folder = playable_model(model, hub_of(args), args.precision).folder
    else:
        folder = planner_model(model, hub_of(args), args.precision)
    if args.threads is not None and args.threads < 1:
        raise RequestError(f"--threads is {args.threads}: it must be at least 1.")
    return Planner(folder, variant, args.threads)
