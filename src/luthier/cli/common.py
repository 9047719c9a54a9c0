"""What every sub-command shares: the common flags, the display that fits them, and how a result is
printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from luthier.progress import Display

# dest -> flag, short flag, help: the same for every command and every script.
SWITCHES = {
    "verbose": ("--verbose", "-v", "say more; on an error, where it came from"),
    "quiet": ("--quiet", "-q", "only errors"),
    "json": ("--json", None, "the result as JSON on standard output"),
    "dry_run": ("--dry-run", None, "show what would be done, without doing it"),
}


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every command has."""
    group = parser.add_argument_group("common options")
    for name, (long, short, text) in SWITCHES.items():
        flags = [long, short] if short else [long]
        group.add_argument(
            *flags, dest=name, action="store_true", default=argparse.SUPPRESS, help=text
        )


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose common flags may stand before or after an action.

    They have no default of their own, because a sub-parser's would undo what was given before its
    action: what was not given is filled in at the end.
    """

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse `args` (the program's own); every common flag is set in the result."""
        found = super().parse_args(args, namespace)
        for name in SWITCHES:
            if not hasattr(found, name):
                setattr(found, name, False)
        return found


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
