"""`luthier dataset styles|assign|score`: which styles a collection has, and edits of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luthier.music.dataset.style_report import StyleReport

ACTIONS = ("styles", "assign", "score")


def add_actions(subparsers: Any) -> None:
    """Declare the three sub-commands; `subparsers` is what `add_subparsers` gave."""
    from luthier.cli import common

    styles = subparsers.add_parser("styles", help="tracks by style and category, against targets")
    _add_metadata(styles)
    styles.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="CATEGORY=SHARE",
        help="share of the tracks that a category should have, e.g. core=0.4; repeatable",
    )
    assign = subparsers.add_parser("assign", help="give tracks styles, or take some away")
    _add_metadata(assign)
    _add_tracks(assign)
    for flag, what in (("--set", "these styles instead"), ("--add", "more"), ("--remove", "less")):
        assign.add_argument(flag, nargs="+", default=[], metavar="STYLE", help=f"{what}, by id")
    score = subparsers.add_parser("score", help="note what a person thought of tracks")
    _add_metadata(score, with_presets=False)
    _add_tracks(score)
    score.add_argument("--score", type=float, required=True, metavar="0..100", help="how good")
    score.add_argument(
        "--verified", action="store_true", help="their styles were listened to and are right"
    )
    score.add_argument("--date", metavar="YYYY-MM-DD", help="when that was (today)")
    for action in (styles, assign, score):
        common.add_common_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Run the chosen one; 0 on success."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "styles": _styles,
        "assign": _assign,
        "score": _score,
    }
    return actions[args.action](args)


def _add_metadata(parser: argparse.ArgumentParser, *, with_presets: bool = True) -> None:
    parser.add_argument(
        "metadata_dir", type=Path, metavar="METADATA", help="folder of style_mapping.json"
    )
    parser.add_argument(
        "--audio", type=Path, metavar="DIR", help="folder of the tracks (those of the metadata)"
    )
    if with_presets:
        parser.add_argument(
            "--presets", type=Path, metavar="FILE", help="style presets (luthier's own 38)"
        )


def _add_tracks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tracks", nargs="+", metavar="TRACK", help="track id, or a pattern such as 'rain-*'"
    )


def _styles(args: argparse.Namespace) -> int:
    from luthier.cli import common
    from luthier.files import existing_folder
    from luthier.music.dataset.style_edits import known_track_ids, load_scores
    from luthier.music.dataset.style_mapping import MAPPING_NAME, load_mapping
    from luthier.music.dataset.style_report import parse_targets, report_styles
    from luthier.music.dataset.styles import load_presets

    presets = load_presets(args.presets)
    path = existing_folder(args.metadata_dir, "metadata folder") / MAPPING_NAME
    tracks = known_track_ids(args.metadata_dir, args.audio)
    mapping = load_mapping(path, presets, tracks) if path.is_file() else {}
    scores = {t: s.model_dump() for t, s in load_scores(args.metadata_dir).items()}
    targets = parse_targets(args.target)
    report = report_styles(mapping, presets, tracks, targets=targets, scores=scores)
    common.emit(args, report.to_json(), _table(report))
    return 0


def _assign(args: argparse.Namespace) -> int:
    from luthier.cli import common
    from luthier.music.dataset.style_edits import StyleEdit, assign_styles
    from luthier.music.dataset.styles import load_presets

    edit = StyleEdit(tuple(args.set), tuple(args.add), tuple(args.remove))
    styles = assign_styles(
        args.metadata_dir,
        args.tracks,
        edit,
        load_presets(args.presets),
        audio_dir=args.audio,
        dry_run=args.dry_run,
    )
    lines = [f"{track}: {', '.join(names)}" for track, names in styles.items()]
    common.emit(args, {"styles": styles, "written": not args.dry_run}, "\n".join(lines))
    return 0


def _score(args: argparse.Namespace) -> int:
    from datetime import date

    from luthier.cli import common
    from luthier.errors import RequestError
    from luthier.music.dataset.style_edits import QualityScore, score_tracks

    if not 0 <= args.score <= 100:
        raise RequestError(f"a score is a number from 0 to 100, not {args.score:g}.")
    try:
        day = date.fromisoformat(args.date) if args.date else date.today()
    except ValueError:
        raise RequestError(
            f"a date is a year, month and day such as 2026-01-31, not {args.date!r}."
        ) from None
    rows = score_tracks(
        args.metadata_dir,
        args.tracks,
        QualityScore(score=args.score, verified=args.verified, date=day),
        audio_dir=args.audio,
        dry_run=args.dry_run,
    )
    text = f"{len(rows)} tracks scored {args.score:g}: {', '.join(rows)}"
    common.emit(args, {"scores": rows, "written": not args.dry_run}, text)
    return 0


def _table(report: StyleReport) -> str:
    """The report for people: categories, then every style, then what is missing."""
    lines = [f"{'category':<14}{'tracks':>7}{'share':>8}{'target':>8}{'lacking':>9}"]
    lines += [
        f"{row.category:<14}{row.tracks:>7}{row.share:>8.0%}{row.target_share:>8.0%}{row.lacking:>9}"
        for row in report.categories
    ]
    lines += ["", f"{'style':<11}{'name':<26}{'tracks':>7}{'lacking':>9}"]
    lines += [
        f"{row.style_id:<11}{row.name:<26}{row.tracks:>7}{row.lacking:>9}" for row in report.styles
    ]
    lines.append("")
    if report.gaps:
        lines.append(f"{len(report.gaps)} styles have no track: {', '.join(report.gaps)}.")
    if report.untagged:
        names = ", ".join(report.untagged[:20]) + (", ..." if len(report.untagged) > 20 else "")
        lines.append(f"{len(report.untagged)} tracks have no style: {names}.")
    mean = f", {report.mean_score:g} of 100 on average" if report.mean_score is not None else ""
    lines.append(
        f"{report.tracks} tracks; {report.scored} scored by people{mean}; "
        f"the styles of {report.verified} verified."
    )
    return "\n".join(lines)
