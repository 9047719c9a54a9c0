"""`luthier demo`: the whole chain on the built-in model, with a report to open."""

from __future__ import annotations

import argparse
from pathlib import Path

from luthier.cli import common
from luthier.errors import MissingExtraError

HELP = (
    "Curate recordings, fine-tune the built-in model on them, prove the result, export it and play "
    "it. Ends with report.html. Without --input it takes the example tracks."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demo's flags."""
    parser.add_argument("--input", type=Path, metavar="DIR", help="your own recordings")
    parser.add_argument("--out", type=Path, default=Path("work/demo"), metavar="DIR",
                        help="where everything goes (default work/demo)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=7, help="of everything random (default 7)")
    parser.add_argument("--train-steps", type=int, metavar="N", help="optimiser steps")
    parser.add_argument("--quick", action="store_true", help="everything, but small: for tests")


def after_stop(args: argparse.Namespace) -> str:
    """How to go on: a training that was stopped goes on, the rest is quick to do again."""
    from luthier.cli.common import command_of

    where = f"{args.out} holds what is done but no report; "
    return f"{where}a training goes on where it was with  {command_of(args)}"


def run(args: argparse.Namespace) -> int:
    """Run the chain; see `luthier demo --help`."""
    from dataclasses import replace
    from importlib.util import find_spec

    from luthier.demo.folder import check_demo_folder
    from luthier.demo.run import DemoSettings, recordings_of, run_demo

    settings = DemoSettings(args.input, args.out, args.seed)
    if args.quick:
        settings = DemoSettings.quick(args.input, args.out, args.seed)
    if args.train_steps is not None:
        settings = replace(settings, train_steps=args.train_steps)
    check_demo_folder(settings.output, recordings_of(settings))
    if args.dry_run:
        values = {name: str(value) for name, value in vars(settings).items()}
        lines = "\n".join(f"  {name}: {value}" for name, value in values.items())
        common.emit(args, values, f"would run the whole chain with\n{lines}")
        return 0
    if find_spec("torch") is None:
        raise MissingExtraError("the demo (it trains)", "train")
    result = run_demo(settings, common.display(args))
    better = result.measures["improved_every_seed"]
    verdict = "nearer to" if better else "not clearly nearer to"
    common.emit(
        args,
        result.to_json(),
        f"The adapter is {verdict} the held-out recordings. Open {result.report}",
    )
    return 0
