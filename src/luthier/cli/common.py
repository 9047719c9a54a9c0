"""What every command shares: the common flags, the display that fits them, how a result is printed,
and how a failure is told.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from luthier.errors import LuthierError, PathError
from luthier.progress import Display
from luthier.stopping import Stopped, heed_signals
from luthier.stopping import exit_code as stopped_exit

_SHOWN = 300  # letters of a name that a sentence shows

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
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    if args.json:
        print(json.dumps(value, ensure_ascii=False, indent=2))
    elif not args.quiet:
        print(text)
    sys.stdout.flush()


def run_guarded(
    run: Callable[[argparse.Namespace], int],
    args: argparse.Namespace,
    program: str,
    exit_code: Callable[[LuthierError], int] = lambda error: error.exit_code,
) -> int:
    """Run a command's work; return its exit code. Errors that luthier knows become one sentence,
    and so do Ctrl-C and SIGTERM (see `luthier.stopping`).

    Args:
        run: does the work and returns the exit code.
        args: with the common flags; `words`, the command as it was typed; and where the command
            has more to say of how to go on after a stop, `after_stop`, which takes `args`. With
            `own_signals` it handles the signals itself.
        program: what the user called, for the sentence.
        exit_code: the code for an error, where it is not the error's own.
    """

    def tell(stop: Stopped) -> None:
        report_stop(program, args, stop)

    try:
        with nullcontext() if getattr(args, "own_signals", False) else heed_signals(tell):
            return run(args)
    except LuthierError as error:
        return _refused(args, program, error, error, exit_code)
    except KeyboardInterrupt as error:
        report_stop(program, args, error)
        return stopped_exit(error)
    except BrokenPipeError:
        # The reader of our output has gone (`luthier … | head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError, RuntimeError) as error:
        # The last resort: what the system says of a name that no stage looked at before.
        told = _path_error(error)
        if told is None:
            raise
        return _refused(args, program, told, error, exit_code)


def _refused(
    args: argparse.Namespace,
    program: str,
    told: LuthierError,
    error: Exception,
    exit_code: Callable[[LuthierError], int],
) -> int:
    if args.verbose:
        traceback.print_exception(error)
    report_error(program, told, as_json=args.json)
    return exit_code(told)


def _path_error(error: Exception) -> PathError | None:
    """The sentence for a path that the system refuses; None for any other error."""
    if isinstance(error, OSError) and error.filename:
        name, reason = os.fsdecode(error.filename), error.strerror or type(error).__name__
        hint = " Choose a shorter name." if error.errno == errno.ENAMETOOLONG else ""
        return PathError(f"{name} cannot be read or written: {reason}.{hint}")
    if isinstance(error, ValueError) and "null byte" in str(error):
        return PathError("a path has a zero byte in it, which no file name can have.")
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        name = str(error.object).encode("utf-8", "backslashreplace").decode()[:_SHOWN]
        return PathError(f"a name is no UTF-8 text: {name}. Rename the file.")
    if isinstance(error, RuntimeError) and "Symlink loop" in str(error):
        return PathError(f"{error}: links that lead in a circle.")
    return None


def report_error(program: str, error: LuthierError, *, as_json: bool) -> None:
    """Say an error: a sentence on standard error, and with --json an object on standard output."""
    if as_json:
        sys.stdout.write(json.dumps(error.to_json()) + "\n")
    sys.stderr.write(f"{program}: {error}\n")


def words_of(args: argparse.Namespace) -> list[str]:
    """The command as it was typed."""
    return list(getattr(args, "words", ["luthier"]))


def command_of(args: argparse.Namespace) -> str:
    """The command as it was typed, for a shell."""
    return shlex.join(words_of(args))


def report_stop(program: str, args: argparse.Namespace, error: KeyboardInterrupt) -> None:
    """Say that a command was stopped, by what, in what, and how to go on: one sentence on standard
    error, and with --json an object on standard output.
    """
    number = error.signal if isinstance(error, Stopped) else signal.SIGINT
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    place = f" in {error.place}" if isinstance(error, Stopped) and error.place else ""
    after = getattr(args, "after_stop", start_anew)(args)
    sentence = f"stopped by {name}{place}: {after}"
    if args.json:
        value = {"error": sentence, "kind": "Stopped", "signal": signal.Signals(number).name}
        sys.stdout.write(json.dumps(value) + "\n")
    sys.stderr.write(f"{program}: {sentence}\n")


def start_anew(args: argparse.Namespace) -> str:
    """What most commands say after a stop: they write their result whole, or not at all."""
    return f"nothing half-written is left; start anew with  {command_of(args)}"
