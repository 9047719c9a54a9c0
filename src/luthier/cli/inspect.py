"""`luthier inspect`: one audio file → its quality, loudness, tempo and key."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "one file: quality, loudness, tempo, key"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("file", type=Path, metavar="FILE", help="an audio file")


def run(args: argparse.Namespace) -> int:
    """Print what can be measured; 0 when the file decodes."""
    from luthier.cli import common
    from luthier.dataset.inspect import inspect_file

    if args.dry_run:
        common.emit(args, {"file": str(args.file)}, f"{args.file} would be measured.")
        return 0
    found = inspect_file(args.file)
    common.emit(args, found.to_json(), found.to_text())
    return 0
