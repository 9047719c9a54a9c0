"""The flags of every command that takes a model: how Hugging Face's hub is asked for one."""

from __future__ import annotations

import argparse

from luthier.cli import common
from luthier.hub import Hub
from luthier.models import DEFAULT_PRECISION, PRECISIONS

MODEL_HELP = "mini, a folder, or a model of Hugging Face's hub: owner/name, owner/name@revision"


def add_hub_arguments(parser: argparse.ArgumentParser, *, plays: bool = False) -> None:
    """Add the flags.

    Args:
        plays: the command needs graphs, which a model of the hub is exported to.
    """
    add = parser.add_argument_group("models of Hugging Face's hub").add_argument
    add("--revision", metavar="REV", help="branch, tag or commit (default: main)")
    add(
        "--offline",
        action="store_true",
        help="take what is in the cache, ask nobody (so with HF_HUB_OFFLINE=1)",
    )
    if plays:
        add(
            "--precision",
            choices=PRECISIONS,
            default=DEFAULT_PRECISION,
            help=f"of the graphs that it is exported to, once (default: {DEFAULT_PRECISION})",
        )


def hub_of(args: argparse.Namespace) -> Hub:
    """How the flags want the hub to be asked; scripts without them ask for main."""
    return Hub(
        revision=getattr(args, "revision", None),
        offline=getattr(args, "offline", False),
        display=common.display(args),
    )
