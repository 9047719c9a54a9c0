"""Writes docs/cli.md from the parsers themselves. Run by `make fix`; `make check` fails when it is
out of date.
"""

from __future__ import annotations

import os
from pathlib import Path

from luthier.cli.main import COMMANDS, build_parser

TARGET = Path(__file__).with_name("cli.md")


def reference() -> str:
    """The page as Markdown. The width is fixed, so that every terminal gives the same page."""
    os.environ["COLUMNS"], before = "100", os.environ.get("COLUMNS")
    os.environ["NO_COLOR"] = "1"
    try:
        pages = [
            f"## luthier {verb}\n\n{COMMANDS[verb].capitalize()}.\n\n"
            f"```text\n{build_parser(verb).format_help().rstrip()}\n```\n"
            for verb in COMMANDS
        ]
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return (
        "# Commands\n\nGenerated from the program by `make fix`. Exit codes: 0 done, 1 it could "
        "not be done, 2 the request was wrong (or, for `curate`, some files failed), 3 a licence "
        "is missing, 130 interrupted.\n\n" + "\n".join(pages)
    )


if __name__ == "__main__":
    TARGET.write_text(reference())
