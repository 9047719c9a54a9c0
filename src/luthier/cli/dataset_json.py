"""`luthier dataset import-json`, `export-json`, `label-json` and `build-json`: the data set file of
ACE-Step 1.5.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from luthier.cli import common

ACTIONS = ("import-json", "export-json", "label-json", "build-json")


def add_actions(actions: Any) -> None:
    """Declare them."""
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
    for action in (taken, given, _add_label(actions), _add_build(actions)):
        common.add_common_arguments(action)


def _add_label(actions: Any) -> argparse.ArgumentParser:
    label: argparse.ArgumentParser = actions.add_parser(
        "label-json", help="hear the recordings of ACE-Step 1.5's data set file; write captions"
    )
    label.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the JSON file to write"
    )
    label.add_argument("--only-unlabeled", action="store_true", help="leave labelled samples alone")
    label.add_argument(
        "--skip-metas", action="store_true", help="tempo, key and metre stay as they are"
    )
    label.add_argument(
        "--metadata", type=Path, metavar="DIR", help="folder whose style_mapping.json counts"
    )
    label.add_argument("--seed", type=int, default=42, help="of the moods (42)")
    _add_source(label)
    return label


def _add_build(actions: Any) -> argparse.ArgumentParser:
    from luthier.cli.dataset import add_build_settings

    build: argparse.ArgumentParser = actions.add_parser(
        "build-json", help="ACE-Step 1.5's data set file → a data set"
    )
    build.add_argument(
        "--metadata", type=Path, required=True, metavar="DIR", help="folder with sources.json"
    )
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="the data set")
    add_build_settings(build)
    _add_source(build)
    return build


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("json_file", type=Path, metavar="JSON", help="the file of ACE-Step 1.5")
    parser.add_argument(
        "--below",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="refuse recordings that lie elsewhere (may be repeated)",
    )


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 0 on success, 3 without a licence."""
    actions = {"import-json": _import, "export-json": _export, "label-json": _label}
    return actions.get(args.action, _build)(args)


def _import(args: argparse.Namespace) -> int:
    from luthier.music.dataset.acestep_import import import_acestep

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
    from luthier.music.dataset.acestep_json import check_acestep_place, to_acestep, write_acestep
    from luthier.music.dataset.build import SPLITS, load_manifest, load_rows
    from luthier.output_folder import check_output_file

    check_output_file(args.out, [args.dataset_dir])
    check_acestep_place(args.out)
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


def _label(args: argparse.Namespace) -> int:
    from luthier.music.dataset.acestep_json import check_acestep_place, read_acestep
    from luthier.music.dataset.acestep_label import LabelSettings, is_labelled, label_acestep
    from luthier.music.dataset.style_mapping import MAPPING_NAME, load_mapping
    from luthier.music.dataset.styles import load_presets

    check_acestep_place(args.out)
    mapping_file = args.metadata / MAPPING_NAME if args.metadata else None
    mapping = load_mapping(mapping_file) if mapping_file and mapping_file.is_file() else {}
    if args.dry_run:
        samples = read_acestep(args.json_file).samples
        count = sum(not (args.only_unlabeled and is_labelled(sample)) for sample in samples)
        common.emit(args, {"samples": count}, f"{count} samples would be labelled.")
        return 0
    settings = LabelSettings(args.only_unlabeled, args.skip_metas, args.seed)
    report = label_acestep(
        args.json_file,
        args.out,
        mapping,
        load_presets(),
        settings,
        below=args.below,
        display=common.display(args),
    )
    lines = [f"note: {note}" for note in report.notes]
    lines.append(f"{len(report.labelled)} samples labelled -> {args.out}")
    count = len(report.labelled)
    value = {"labelled": count, "notes": list(report.notes), "output": str(args.out)}
    common.emit(args, value, "\n".join(lines))
    return 0


def _build(args: argparse.Namespace) -> int:
    from luthier.cli.dataset import settings_from
    from luthier.music.dataset.acestep_build import build_acestep
    from luthier.music.dataset.acestep_json import read_acestep

    if args.dry_run:
        count = len(read_acestep(args.json_file).samples)
        common.emit(args, {"samples": count}, f"{count} samples would be built into {args.out}")
        return 0
    summary, notes = build_acestep(
        args.json_file,
        args.metadata,
        args.out,
        settings_from(args),
        below=args.below,
        display=common.display(args),
    )
    lines = [*(f"note: {note}" for note in notes), *(f"warning: {w}" for w in summary.warnings)]
    lines.append(f"{summary.unique_tracks} tracks -> {summary.output_path}")
    common.emit(args, summary.to_json() | {"notes": list(notes)}, "\n".join(lines))
    return 0
