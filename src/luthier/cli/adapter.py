"""`luthier adapter`: an adapter in the spelling of another program, and what an adapter is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from luthier.cli import common

HELP = "convert an adapter for PEFT, ACE-Step, diffusers, ComfyUI, kohya or LyCORIS; show one"
# Of `music.adapter_writer`, which needs more than the standard library.
_SPELLINGS = ("peft", "acestep", "diffusers", "comfyui", "kohya", "lycoris")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add both actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    convert = actions.add_parser("convert", help="write an adapter as another program reads it")
    _add_adapter(convert)
    convert.add_argument(
        "output",
        type=Path,
        metavar="OUT",
        help="a folder (peft, acestep) or a file that ends with .safetensors (the others)",
    )
    convert.add_argument(
        "--to", required=True, choices=_SPELLINGS, help="whose names and strengths it gets"
    )
    show = actions.add_parser("show", help="kind, rank, strength and layers of an adapter")
    _add_adapter(show)
    for action in (convert, show):
        common.add_common_arguments(action)


def _add_adapter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", type=Path, metavar="IN", help="an adapter: a folder or a file")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 0 when done, 2 where the adapter or the place is unsound."""
    from luthier.music.adapters.convert import convert, facts_of, plan_conversion
    from luthier.music.adapters.file import read_adapter

    place = args.adapter.expanduser()
    if args.action == "show":
        facts = facts_of(read_adapter(place))
        common.emit(args, facts, _facts_text(facts, verbose=args.verbose))
        return 0
    output = args.output.expanduser()
    if args.dry_run:
        planned = plan_conversion(place, args.to, output).as_dict()
        common.emit(args, planned, f"would write {output} as {args.to}\n{_facts_text(planned)}")
        return 0
    done = convert(place, args.to, output)
    common.emit(
        args,
        done.as_dict(),
        f"{output}: {done.source.name} as {args.to}; its layers compute the same within "
        f"{done.difference:.1g}",
    )
    return 0


def _facts_text(facts: dict[str, Any], *, verbose: bool = False) -> str:
    low, high = facts["scale"]
    scale = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    base = f", trained on {facts['base_model']}" if facts["base_model"] else ""
    lines = [
        f"{facts['path']}: {facts['method']} of rank {facts['rank']} in {facts['layers']} layers, "
        f"scale {scale}, names as of {facts['spelling']}{base}",
    ]
    if verbose:
        lines += [f"  {part}" for part in facts["parts"]] + [f"  sha256 {facts['sha256']}"]
    return "\n".join(lines)
