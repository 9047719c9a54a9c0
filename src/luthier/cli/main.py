"""`luthier <verb>`: a table of commands. Only the chosen one is imported, so that `--help` is
instant.

This module knows the standard library only. A command module offers HELP, add_arguments(parser)
and run(args) -> int; and after_stop(args) -> str where it has more to say after Ctrl-C or SIGTERM
than that it can be started anew.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from luthier import __version__

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
    "plan": "a few words → tempo, key, caption, lyrics and audio codes",
    "generate": "play it: a prompt → a WAV",
    "serve": "play over HTTP: ACE-Step's REST API over a durable queue",
    "matrix": "bpm × key × task × length: what works here, how fast, in how much memory",
    "mcp": "tools for language models: generate, repaint, status",
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
    if hasattr(module, "after_stop"):
        parser.set_defaults(after_stop=module.after_stop)
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
    try:
        args = build_parser(verb).parse_args(words[1:])
    except KeyboardInterrupt:  # nothing was done yet
        return _INTERRUPTED_EXIT
    args.words = ["luthier", *words]
    from luthier.cli.common import run_guarded

    return run_guarded(args.run, args, "luthier")
