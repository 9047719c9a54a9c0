"""`luthier dataset sources`: add, check and import the licence records of tracks."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luthier.cli import common

ACTIONS = ("sources",)


def add_actions(actions: Any) -> None:
    """Declare `sources` and its own actions."""
    parser = actions.add_parser("sources", help="where tracks came from and what is allowed")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("add", help="add a record to sources.json")
    _add_record_flags(add)
    check = verbs.add_parser("check", help="who may not train, and what is doubtful")
    imported = verbs.add_parser(
        "import-csv", help="add the records of a CSV file, all of them or none"
    )
    imported.add_argument("csv", type=Path, metavar="CSV", help="columns as in sources.json")
    for verb in (add, check, imported):
        verb.add_argument(
            "--metadata", type=Path, required=True, metavar="DIR", help="folder of sources.json"
        )
        verb.add_argument(
            "--audio-dir", type=Path, metavar="DIR", help="the tracks: ids are checked against it"
        )
        common.add_common_arguments(verb)
    for verb in (add, imported):
        verb.add_argument("--replace", action="store_true", help="records of the same ids give way")


def _add_record_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source-id", required=True, metavar="ID", help="name of the source")
    parser.add_argument("--tracks", metavar="A,B", help="track ids; or all of --audio-dir")
    parser.add_argument(
        "--type",
        required=True,
        dest="source_type",
        metavar="TYPE",
        help="commissioned, royalty_free, creative_commons or partnership",
    )
    parser.add_argument("--provider", required=True, metavar="NAME", help="who gave the tracks")
    parser.add_argument(
        "--license", required=True, dest="license_type", metavar="NAME", help="e.g. CC-BY-4.0"
    )
    parser.add_argument(
        "--date", required=True, dest="date_acquired", metavar="DAY", help="acquired, YYYY-MM-DD"
    )
    parser.add_argument(
        "--ai-training",
        choices=("yes", "no", "unknown"),
        default="unknown",
        help="whether the licence says that AI training is allowed (unknown, which counts as no)",
    )
    parser.add_argument("--cost", metavar="SUM", help="what was paid; commissioned needs it")
    parser.add_argument("--verified-by", metavar="NAME", help="who read the licence")
    parser.add_argument("--evidence", metavar="LINK", help="link or file that shows the licence")
    parser.add_argument("--attribution", metavar="LINE", help="the credit the licence asks for")
    parser.add_argument("--cc-flags", metavar="BY,SA", help="BY, NC, ND, SA by commas")
    parser.add_argument("--notes", metavar="TEXT", help="anything else")


def run(args: argparse.Namespace) -> int:
    """0 on success; a check: 3 when tracks may not train, 1 when something else is wrong."""
    return _check(args) if args.verb == "check" else _write(args)


def _write(args: argparse.Namespace) -> int:
    from luthier.dataset.source_import import add_records, read_csv, require_known_tracks

    records = [_record(args)] if args.verb == "add" else read_csv(args.csv)
    if args.audio_dir:
        require_known_tracks(records, _tracks(args))
    total = add_records(args.metadata, records, replace=args.replace, dry_run=args.dry_run)
    tracks = sum(len(record.track_ids) for record in records)
    done = "would be added" if args.dry_run else "added"
    text = "\n".join(
        f"{done}: {record.source_id}, {len(record.track_ids)} tracks, {record.license_type}, "
        f"AI training {_PERMISSION[record.ai_training_allowed]}"
        for record in records
    )
    value = {"added": [r.to_row() for r in records], "tracks": tracks, "sources": len(total)}
    common.emit(args, value, text)
    return 0


_PERMISSION = {True: "allowed", False: "not allowed", None: "not stated, which counts as no"}


def _record(args: argparse.Namespace) -> Any:
    from luthier.dataset.source_import import record_from
    from luthier.errors import RequestError

    if not args.tracks and not args.audio_dir:
        raise RequestError("name the tracks: --tracks a,b or --audio-dir DIR for all in a folder.")
    names = args.tracks.split(",") if args.tracks else sorted(_tracks(args))
    row = {
        "track_ids": [name.strip() for name in names if name.strip()],
        "ai_training_allowed": {"yes": True, "no": False, "unknown": None}[args.ai_training],
        "cc_flags": args.cc_flags.upper().split(",") if args.cc_flags else [],
    }
    plain = ("source_id", "source_type", "provider", "license_type", "date_acquired", "cost")
    for name in (*plain, "verified_by", "evidence", "attribution", "notes"):
        if getattr(args, name) is not None:
            row[name] = getattr(args, name)
    return record_from(row)


def _tracks(args: argparse.Namespace) -> list[str]:
    from luthier.dataset.tracks import find_audio

    return list(find_audio(args.audio_dir))


def _check(args: argparse.Namespace) -> int:
    from luthier.dataset.licence_gate import check_sources
    from luthier.dataset.sources import SOURCES_NAME, load_sources

    sources = load_sources(args.metadata / SOURCES_NAME)
    tracks = _tracks(args) if args.audio_dir else None
    report = check_sources(sources, args.metadata, tracks)
    lines = [f"note: {note}" for note in report.notes]
    lines += [f"refused: {r.track_id} ({r.reason})" for r in report.refused]
    lines += [f"wrong: {problem}" for problem in report.problems]
    if not report.refused and not report.problems:
        lines.append(f"{len(sources)} sources: every track may be trained on.")
    value = {
        "sources": len(sources),
        "refused": [asdict(row) for row in report.refused],
        "problems": list(report.problems),
        "notes": list(report.notes),
    }
    common.emit(args, value, "\n".join(lines))
    return 3 if report.refused else 1 if report.problems else 0
