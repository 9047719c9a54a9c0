"""`generate --thinking`: the planner's facts where the user said nothing, and its audio codes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from luthier.cli import common
from luthier.cli.plan import open_planner
from luthier.errors import RequestError

if TYPE_CHECKING:
    from luthier.music.request import MusicRequest

# flag: (field of a plan's request, what it is)
_FLAGS = {
    "--lm-temperature": ("temperature", "of the planner; 0 takes the likeliest"),
    "--lm-top-k": ("top_k", "of the planner"),
    "--lm-top-p": ("top_p", "of the planner"),
    "--lm-cfg-scale": ("cfg_scale", "how closely the planner follows the prompt"),
    "--lm-repetition-penalty": ("repetition_penalty", "of the planner"),
    "--lm-negative-prompt": ("negative_prompt", "what the planner is guided away from"),
}


def add_thinking_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--thinking` and what belongs to it."""
    group = parser.add_argument_group("thinking")
    group.add_argument(
        "--thinking",
        action="store_true",
        help="let the planner fill what is not said, and write audio codes to play by",
    )
    group.add_argument(
        "--planner",
        metavar="MODEL",
        help="a folder with an exported planner, or one of the hub (default: the model's)",
    )
    for flag, (field, text) in _FLAGS.items():
        group.add_argument(flag, dest=f"lm_{field}", metavar=field.upper(), help=text)
    group.add_argument(
        "--cot-caption",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let the planner write a caption of its own",
    )


def lm_rules(args: argparse.Namespace) -> dict[str, Any]:
    """What was said of the planner, by the fields of a plan's request."""
    rules = {field: getattr(args, f"lm_{field}") for field, _ in _FLAGS.values()}
    return {field: value for field, value in rules.items() if value is not None}


def with_plan(args: argparse.Namespace, request: MusicRequest) -> MusicRequest:
    """The request as the planner completes it; as it is without `--thinking`.

    What the user said stays. Codes are written for text2music only, as upstream does.

    Raises:
        RequestError: the model has no planner, or the task has no use for a plan.
    """
    if not args.thinking:
        return request
    if request.task != "text2music":
        raise RequestError(
            f"the task {request.task} follows its source: thinking is for text2music."
        )
    from luthier.music.planner.completion import completed, plan_request_for

    if args.planner:
        planner = open_planner(args, args.planner, None)
    else:
        planner = open_planner(args, args.model, None, of_music=True)
    rules = lm_rules(args) | {"rewrite_caption": args.cot_caption}
    asked = plan_request_for(request, rules)
    (plan,) = planner.plan(asked, common.display(args))
    planner.lm.release()
    return completed(request, plan)
