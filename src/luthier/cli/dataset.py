"""`luthier dataset`: a prepared folder → a Hugging Face data set, and a check of one."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "build or check a data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their flags."""
    from luthier.cli import common

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
    build.add_argument(
        "--validation-split", type=float, default=0.1, help="share of tracks held out (0.1)"
    )
    build.add_argument(
        "--repeat-count", type=int, default=200, help="how often a pass takes a track (200)"
    )
    build.add_argument("--seed", type=int, default=42, help="of the split (42)")
    build.add_argument("--presets", type=Path, metavar="FILE", help="style presets (luthier's own)")
    check = actions.add_parser("check", help="find what is wrong with a data set")
    check.add_argument("dataset_dir", type=Path, metavar="DATASET", help="a built data set")
    for action in (build, check):
        common.add_common_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Build or check; 0 on success, 1 when a check finds something."""
    return _build(args) if args.action == "build" else _check(args)


def _build(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from luthier.cli import common
    from luthier.dataset.build import build_dataset
    from luthier.dataset.styles import load_presets
    from luthier.dataset.tracks import find_audio

    if args.dry_run:
        tracks = sorted(find_audio(args.data_dir, "data folder"))
        text = f"{len(tracks)} tracks would be built into {args.out}: {', '.join(tracks)}"
        common.emit(args, {"planned": tracks}, text)
        return 0
    summary = build_dataset(
        args.data_dir,
        args.metadata,
        args.out,
        validation_split=args.validation_split,
        repeat_count=args.repeat_count,
        seed=args.seed,
        presets=load_presets(args.presets),
    )
    text = (
        f"{summary.unique_tracks} tracks ({summary.total_duration_hours * 60:.1f} minutes): "
        f"{summary.train_samples} training samples, {summary.validation_samples} validation "
        f"tracks -> {summary.output_path}\nhash {summary.dataset_hash}"
    )
    common.emit(args, asdict(summary), text)
    return 0


def _check(args: argparse.Namespace) -> int:
    from luthier.cli import common
    from luthier.dataset.build import check_dataset

    problems = check_dataset(args.dataset_dir)
    common.emit(
        args,
        {"dataset": str(args.dataset_dir), "problems": problems},
        "\n".join(problems) or f"{args.dataset_dir} is sound.",
    )
    return 1 if problems else 0
