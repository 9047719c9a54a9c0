"""What the contract's scripts share: the common flags, one way to fail, the environment variables.

In the contract 1 means fatal and other exit codes have a meaning of their own, so a wrong flag
exits 1 here (argparse's own 2 would read as "some files failed").
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from luthier import __version__
from luthier.cli.common import CommandParser, add_common_arguments, report_error, run_guarded
from luthier.errors import LicenceError, LuthierError, RequestError

FATAL_EXIT, LICENCE_EXIT = 1, 3
CALLED_VARIABLE = "LUTHIER_CALLED_AS"  # how a shell script that starts Python was called
# Where things lie unless a flag says otherwise: variable -> default.
FOLDERS = {
    "LOFI_DATA_DIR": "./data",
    "LOFI_CONFIG_DIR": "./config",
    "LOFI_CHECKPOINT_DIR": "./exps/logs",
    "ACE_STEP_DIR": "~/.cache/ace-step",
}


def folder_from(variable: str) -> Path:
    """The folder that an environment variable of the contract names, else its default."""
    return Path(os.environ.get(variable) or FOLDERS[variable]).expanduser()


class ScriptParser(CommandParser):
    """An argument parser whose errors are one sentence and exit 1; flags are not abbreviated.

    Sub-parsers are of this class too, and the switches of `add_common_flags` may stand before or
    after a sub-command.
    """

    def error(self, message: str) -> NoReturn:
        """Refuse in one sentence; `parse_args` prints it."""
        raise RequestError(f"{message}. '{self.prog} --help' shows the flags.")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse `args` (the program's own); exit 1 with a sentence where they are wrong."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            found = super().parse_args(words, namespace)
        except RequestError as error:
            report_error(self.prog, error, as_json="--json" in words)
            raise SystemExit(FATAL_EXIT) from None
        found.program = self.prog
        found.words = [*_called(self.prog), *words]
        return found


def _called(prog: str) -> list[str]:
    """How the script was called, for a command to type again."""
    shell = os.environ.get(CALLED_VARIABLE)
    if shell and Path(shell).name == prog:
        return [shell]
    script = sys.argv[0] if Path(sys.argv[0]).name == prog else prog
    return [script] if os.access(script, os.X_OK) and os.sep in script else ["python", script]


def script_parser(prog: str, description: str) -> ScriptParser:
    """The parser of a script: `prog` is the name it is called by, e.g. "convert_dataset.py"."""
    return ScriptParser(prog=prog, description=description, allow_abbrev=False)


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Add --version, --verbose, --quiet, --json and --dry-run to a parser or sub-parser."""
    parser.allow_abbrev = False  # of sub-parsers, which argparse makes itself
    add_common_arguments(parser)
    parser.add_argument(
        "--version", action="version", version=f"{parser.prog} (luthier {__version__})"
    )


def exit_code_of(error: LuthierError) -> int:
    """3 where a licence is missing, else 1: what scripts without codes of their own exit with."""
    return LICENCE_EXIT if isinstance(error, LicenceError) else FATAL_EXIT


def run_script(
    run: Callable[[argparse.Namespace], int],
    args: argparse.Namespace,
    exit_code: Callable[[LuthierError], int] = exit_code_of,
) -> int:
    """Run a script's work; return its exit code. Errors that luthier knows become one sentence.

    Args:
        run: does the work and returns the exit code.
        args: from `ScriptParser.parse_args`.
        exit_code: the contract's code for an error, where a script has codes of its own.
    """
    return run_guarded(run, args, args.program, exit_code)
