"""`luthier dataset import-json` and `export-json`: the data set file of ACE-Step 1.5."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from luthier.cli import common

ACTIONS = ("import-json", "export-json")


def add_actions(actions: Any) -> None:
    """Declare both."""
    taken = actions.add_parser("import-json", help="ACE-Step 1.5's data set file → a folder")
    taken.add_argument("json_file", type=Path, metavar="JSON", help="the file of ACE-Step 1.5")
    taken.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="prepared folder; new or empty"
    )
    given = actions.add_parser("export-json", help="a data set → ACE-Step 1.5's data set file")
    given.add_argument("dataset_dir", type=Path, metavar="DATASET", help="a built data set")
    given.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the JSON file to write"
    )
    given.add_argument(
        "--split",
        choices=("train", "validation", "all"),
        default="train",
        help="which tracks; that trainer has no validation of its own (train)",
    )
    given.add_argument("--name", help="of the data set in the file (the folder's)")
    for action in (taken, given):
        common.add_common_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Import or export; 0 on success."""
    return _import(args) if args.action == "import-json" else _export(args)


def _import(args: argparse.Namespace) -> int:
    from luthier.dataset.acestep_import import import_acestep

    report = import_acestep(
        args.json_file, args.out, dry_run=args.dry_run, display=common.display(args)
    )
    done = "would be written" if args.dry_run else "written"
    lines = [f"note: {note}" for note in report.notes]
    lines.append(
        f"{len(report.tracks)} tracks {done} to {args.out}. Next: their licences, with  "
        f"luthier dataset sources add --audio-dir {args.out}"
    )
    value = {"tracks": list(report.tracks), "notes": list(report.notes), "output": str(args.out)}
    common.emit(args, value, "\n".join(lines))
    return 0


def _export(args: argparse.Namespace) -> int:
    from luthier.dataset.acestep_json import to_acestep, write_acestep
    from luthier.dataset.build import SPLITS, load_manifest, load_rows

    created = str(load_manifest(args.dataset_dir).get("created", ""))
    splits = SPLITS if args.split == "all" else (args.split,)
    rows = [row for split in splits for row in load_rows(args.dataset_dir, split)]
    name = args.name or args.dataset_dir.resolve().name
    if args.dry_run:
        content = to_acestep(rows, name, created)
    else:
        content = write_acestep(args.out, rows, name, created)
    done = "would be written" if args.dry_run else "written"
    count = len(content["samples"])
    value = {"samples": count, "output": str(args.out)}
    common.emit(args, value, f"{count} samples {done} to {args.out}")
    return 0
