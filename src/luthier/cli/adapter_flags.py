"""The flags of `luthier generate` that name adapters: `--lora PATH`, each with a `--lora-scale`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


def add_adapter_arguments(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add both flags; `args.lora` is then what a request's field `lora` takes, or None."""
    parser.add_argument(
        "--lora", action=_Named, metavar="PATH", help=f"{help_text}; may be repeated"
    )
    parser.add_argument(
        "--lora-scale",
        action=_Scaled,
        dest="lora",
        metavar="SCALE",
        help="how strong the --lora before it is, from -10 to 10 (default 1, as trained)",
    )


class _Named(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        namespace.lora = [*(namespace.lora or ()), values]


class _Scaled(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        before = list(namespace.lora or ())
        if not before or isinstance(before[-1], dict):
            parser.error("--lora-scale belongs behind the --lora that it is the strength of")
        namespace.lora = [*before[:-1], {"path": before[-1], "scale": values}]
