"""`luthier compare`: several checkpoints or sets of clips against real tracks; which is best."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli import common
from luthier.cli.evaluate import (
    add_measure_arguments,
    add_sample_arguments,
    after_stop,
    check_places,
    check_results,
    place_of_argument,
    settings_of,
    show_plan,
    write_page,
)

__all__ = ["HELP", "add_arguments", "after_stop", "compare", "run"]

if TYPE_CHECKING:
    from luthier.music.evaluation.compare import Ranking
    from luthier.music.evaluation.validate import Validation

HELP = "rank checkpoints or sets of clips by how near they are to real tracks, and name the best"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `luthier compare`."""
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="PATH",
        help="checkpoints, models, folders of clips, or evaluations as JSON",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="held-out real tracks: a folder, or a data set (not needed for JSON)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the ranking as JSON")
    add_sample_arguments(parser)
    add_measure_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate what is not evaluated yet, rank, and print."""
    return compare(args, args.checkpoints, args.reference)


def compare(args: argparse.Namespace, named: list[str], reference: Path | None) -> int:
    """Rank what is `named`; what `luthier compare` and the contract's script share."""
    from luthier.errors import RequestError
    from luthier.files import read_json, write_json
    from luthier.music.evaluation.compare import rank, scored
    from luthier.music.evaluation.validate import validation_loss
    from luthier.provenance import write_run

    _refuse_one_name([Path(text) for text in named])  # before anything is downloaded
    paths = [place_of_argument(args, text) for text in named]
    settings = settings_of(args)
    _refuse_one_name(paths)
    if len(paths) < 2:
        raise RequestError("a comparison needs at least two checkpoints.")
    folders = [path for path in paths if path.suffix != ".json"]
    if folders and reference is None:
        raise RequestError("checkpoints and clips are compared against real tracks: name them.")
    read = [args.prompts_file, args.presets, reference]
    check_results(args.out, args.html, [*paths, *filter(None, read)])
    if args.dry_run:
        if reference is not None:
            show_plan(args, folders, reference, settings)
        return 0
    check_places(args.out, args.html)
    with ExitStack() as stack:
        found = _validate_all(args, folders, reference, stack) if reference else {}
        rows = [
            scored(found[path].evaluation.to_json(), validation_loss(path))
            if path in found
            else scored(read_json(path))
            for path in paths
        ]
        ranking = rank(rows)
        if args.html and found and reference:
            order = {row.name: i for i, row in enumerate(ranking.rows)}
            sides = sorted(found.values(), key=lambda f: order[f.evaluation.checkpoint])
            good = not ranking.warnings
            write_page(args.html, sides, reference, verdict=_verdict(ranking), good=good)
    value = ranking.to_json()
    value["evaluations"] = [one.to_json() for one in found.values()]
    if args.out:
        write_json(args.out, value)
        write_run(args.out, stage="compare", inputs=paths)
    common.emit(args, value, ranking.to_text())
    return 0


def _refuse_one_name(paths: list[Path]) -> None:
    from luthier.errors import RequestError

    names = [path.resolve().name for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"two of the paths are called {twice}: a ranking goes by name.")


def _validate_all(
    args: argparse.Namespace, folders: list[Path], reference: Path, stack: ExitStack
) -> dict[Path, Validation]:
    from luthier.music.evaluation.evaluate import open_ears
    from luthier.music.evaluation.validate import clips_folder, validate

    settings, display = settings_of(args), common.display(args)
    opened = open_ears(settings.embedding, settings.options)
    settings = replace(settings, options=replace(settings.options, opened=opened))
    found = {}
    for path in folders:
        wanted = args.sample_output_dir and args.sample_output_dir / path.resolve().name
        own, wants = args.prompts_file is not None, args.generate_samples
        folder = clips_folder(path, wanted, generate=wants, own_prompts=own)
        clips = stack.enter_context(folder)
        display.say(f"— {path.name}")
        found[path] = validate(path, reference, clips, settings, display)
    return found


def _verdict(ranking: Ranking) -> str:
    return " ".join([ranking.reason, *ranking.warnings])
