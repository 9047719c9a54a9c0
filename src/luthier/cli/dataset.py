"""`luthier dataset`: licences and styles of tracks, and a Hugging Face data set made of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli import common, dataset_json, dataset_sources, dataset_styles

if TYPE_CHECKING:
    from luthier.music.dataset.build import BuildSettings

HELP = "build or check a data set; its licences, styles and exchange formats"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="a prepared folder → a data set")
    build.add_argument(
        "data_dir", type=Path, metavar="DATA", help="folder of audio, prompts and lyrics"
    )
    build.add_argument(
        "--metadata",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with sources.json and style_mapping.json",
    )
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="the data set")
    add_build_settings(build)
    build.add_argument("--presets", type=Path, metavar="FILE", help="style presets (luthier's own)")
    check = actions.add_parser("check", help="find what is wrong with a data set")
    check.add_argument("dataset_dir", type=Path, metavar="DATASET", help="a built data set")
    check.add_argument(
        "--metadata", type=Path, metavar="DIR", help="check today's sources.json there as well"
    )
    for action in (build, check):
        common.add_common_arguments(action)
    dataset_sources.add_actions(actions)
    dataset_json.add_actions(actions)
    dataset_styles.add_actions(actions)


def add_build_settings(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `BuildSettings`; their defaults are its."""
    parser.add_argument("--validation-split", type=float, help="share of tracks held out (0.1)")
    parser.add_argument("--repeat-count", type=int, help="how often a pass takes a track (200)")
    parser.add_argument(
        "--repeat-validation",
        action="store_true",
        default=None,
        help="repeat the held-out tracks as well",
    )
    parser.add_argument("--seed", type=int, help="of the split (42)")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 0 on success, 1 when a check finds something, 3 without a licence."""
    if args.action == "build":
        return convert(args, args.data_dir, args.metadata, args.out, args.presets)
    if args.action == "check":
        return _check(args)
    if args.action in dataset_sources.ACTIONS:
        return dataset_sources.run(args)
    if args.action in dataset_json.ACTIONS:
        return dataset_json.run(args)
    return dataset_styles.run(args)


def convert(
    args: argparse.Namespace, data_dir: Path, metadata_dir: Path, out: Path, presets: Path | None
) -> int:
    """Build a data set, or with --dry-run check everything that a build would; print the summary.

    Raises:
        LuthierError: as `build_dataset`; a dry run says the same.
    """
    from luthier.music.dataset.build import (
        STAGE,
        build_dataset,
        load_rows,
        metadata_files,
        plan_dataset,
    )
    from luthier.music.dataset.styles import load_presets
    from luthier.output_folder import check_output

    settings, display = settings_from(args), common.display(args)
    styles = load_presets(presets)
    if args.dry_run:
        check_output(out, STAGE, [data_dir, *metadata_files(metadata_dir)])
        plan = plan_dataset(data_dir, metadata_dir, settings, presets=styles, display=display)
        summary, splits = plan.summary(out), plan.splits
    else:
        summary = build_dataset(
            data_dir, metadata_dir, out, settings, presets=styles, display=display
        )
        splits = {s: load_rows(out, s) for s in ("train", "validation")} if args.verbose else {}
    lines = [f"warning: {warning}" for warning in summary.warnings]
    if args.verbose:
        lines += [
            f"{split:<10} {row['keys']}: {row['caption']}"
            for split, rows in splits.items()
            for row in rows
        ]
    lines += [
        f"{summary.unique_tracks} tracks ({summary.total_duration_hours * 60:.1f} minutes): "
        f"{summary.train_samples} training samples, {summary.validation_samples} validation "
        f"samples {'would go' if args.dry_run else '->'} {summary.output_path}",
        f"hash {summary.dataset_hash}",
    ]
    common.emit(args, summary.to_json(), "\n".join(lines))
    return 0


def settings_from(args: argparse.Namespace) -> BuildSettings:
    """The flags that were given, over the defaults."""
    from dataclasses import fields

    from luthier.music.dataset.build import BuildSettings

    given = {field.name: getattr(args, field.name) for field in fields(BuildSettings)}
    return BuildSettings(**{name: value for name, value in given.items() if value is not None})


def _check(args: argparse.Namespace) -> int:
    from luthier.dataset.sources import SOURCES_NAME, load_sources
    from luthier.music.dataset.check import check_dataset

    sources = load_sources(args.metadata / SOURCES_NAME) if args.metadata else None
    found = check_dataset(args.dataset_dir, sources, common.display(args))
    value = {
        "dataset": str(args.dataset_dir),
        "problems": list(found.problems),
        "v1_losses": list(found.losses),
    }
    verdict = [] if found.problems else [f"{args.dataset_dir} is sound."]
    notes = [f"note: {loss}" for loss in found.losses]
    common.emit(args, value, "\n".join([*notes, *found.problems, *verdict]))
    return 1 if found.problems else 0
