"""`luthier <verb>`: a table of commands. Only the chosen one is imported, so that `--help` is
instant.

This module knows the standard library only. A command module offers HELP, add_arguments(parser)
and run(args) -> int.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence

from luthier import __version__
from luthier.errors import LuthierError

# verb -> one line for the overview; the module is luthier.cli.<verb>.
COMMANDS = {
    "demo": "the whole chain on the built-in model, in minutes, with a report to open",
    "curate": "recordings → training-ready audio",
    "inspect": "one file: quality, loudness, tempo, key",
    "prompts": "style tags → prompt and lyrics files",
    "dataset": "build or check a data set: licensed, split, hashed",
    "train": "LoRA fine-tune, resumable",
    "evaluate": "a checkpoint or its clips against real tracks: FAD, CLAP, tempo, key, gates",
    "compare": "rank checkpoints against real tracks and name the best",
    "merge": "base + adapter → model",
    "export": "model → ONNX graphs with contract and manifest",
    "generate": "play it: a prompt → a WAV",
    "trace": "where a result came from",
}
_USAGE_EXIT, _INTERRUPTED_EXIT = 2, 130


def _overview() -> str:
    rows = "\n".join(f"  {verb:<10} {line}" for verb, line in COMMANDS.items())
    return (
        "usage: luthier <command> [options]\n\n"
        "A workshop that turns recordings into instruments.\n\n"
        f"commands:\n{rows}\n\n"
        "luthier <command> --help says more. luthier --version prints the version.\n"
    )


def build_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of one command, with the common flags."""
    from luthier.cli.common import CommandParser, add_common_arguments

    module = importlib.import_module(f"luthier.cli.{verb}")
    parser = CommandParser(prog=f"luthier {verb}", description=module.HELP)
    parser.add_argument("--version", action="version", version=f"luthier {__version__}")
    module.add_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Errors that luthier knows become one sentence."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_overview())
        return 0 if words else _USAGE_EXIT
    if words[0] in ("-V", "--version"):
        sys.stdout.write(f"luthier {__version__}\n")
        return 0
    verb = words[0]
    if verb not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(verb, COMMANDS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else " 'luthier --help' lists the commands."
        sys.stderr.write(f"luthier: there is no command '{verb}'.{hint}\n")
        return _USAGE_EXIT
    args = build_parser(verb).parse_args(words[1:])
    try:
        code: int = args.run(args)
    except LuthierError as error:
        if args.verbose:
            traceback.print_exception(error)
        if args.json:
            sys.stdout.write(json.dumps(error.to_json()) + "\n")
        sys.stderr.write(f"luthier: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("luthier: stopped.\n")
        return _INTERRUPTED_EXIT
    except BrokenPipeError:
        # The reader of our output has gone (`luthier … | head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
