"""`scripts/lofi_audio_processor.py`: recordings → training-ready audio, or a look at one file.

Exit codes of `process`: 0 every file was processed or skipped, 1 fatal, 2 some files failed the
quality checks. Of `validate`: 0 the file was measured, 1 fatal.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from luthier.cli import inspect
from luthier.cli.curate import add_settings, after_stop, curate_folder
from luthier.cli.scripts.common import add_common_flags, folder_from, run_script, script_parser


def build_parser() -> argparse.ArgumentParser:
    """The script's commands and flags."""
    parser = script_parser(
        "lofi_audio_processor.py",
        "Make recordings (MP3, WAV, FLAC, M4A, OGG, Opus, AIFF) ready for training.",
    )
    add_common_flags(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    process = commands.add_parser("process", help="a folder of recordings → processed audio")
    data = folder_from("LOFI_DATA_DIR")
    process.add_argument(
        "--input-dir",
        type=Path,
        default=data / "raw",
        metavar="DIR",
        help="recordings, sub-folders included ($LOFI_DATA_DIR/raw)",
    )
    process.add_argument(
        "--output-dir",
        type=Path,
        default=data / "processed",
        metavar="DIR",
        help="where the processed audio goes ($LOFI_DATA_DIR/processed)",
    )
    add_settings(process)
    add_common_flags(process)
    process.set_defaults(work=_process, after_stop=after_stop)
    validate = commands.add_parser("validate", help="the quality of one file")
    validate.add_argument("--file", type=Path, required=True, metavar="FILE", help="an audio file")
    add_common_flags(validate)
    validate.set_defaults(work=inspect.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    args = build_parser().parse_args(argv)
    return run_script(args.work, args)


def _process(args: argparse.Namespace) -> int:
    return curate_folder(args, args.input_dir, args.output_dir)
