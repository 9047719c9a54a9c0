"""What every sub-command shares: the common flags, the display that fits them, and how a result is
printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from luthier.progress import Display


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every command has."""
    group = parser.add_argument_group("common options")
    group.add_argument("--verbose", "-v", action="store_true", help="say more")
    group.add_argument("--quiet", "-q", action="store_true", help="only errors")
    group.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    group.add_argument(
        "--dry-run", action="store_true", help="show what would be done, without doing it"
    )


def display(args: argparse.Namespace) -> Display:
    """The progress display that fits the flags: silent for --quiet, JSON lines for --json."""
    if args.quiet:
        return Display("none")
    return Display("json" if args.json else "auto")


def emit(args: argparse.Namespace, value: dict[str, Any], text: str) -> None:
    """Print a result: `value` for programs (--json), `text` for people, nothing with --quiet."""
    if args.json:
        print(json.dumps(value, ensure_ascii=False, indent=2))
    elif not args.quiet:
        print(text)
    sys.stdout.flush()
