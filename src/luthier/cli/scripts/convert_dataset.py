"""`scripts/convert_dataset.py`: audio, prompts, lyrics and licences → a Hugging Face data set.

Exit codes: 0 success, 1 fatal, 3 tracks without permission for AI training (listed).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from luthier.cli.dataset import add_build_settings, convert
from luthier.cli.scripts.common import add_common_flags, folder_from, run_script, script_parser

_PRESETS_NAME = "style_presets.json"


def build_parser() -> argparse.ArgumentParser:
    """The script's flags."""
    parser = script_parser(
        "convert_dataset.py",
        "Convert audio, prompt and lyrics files to a Hugging Face data set in Arrow format. "
        "Every track needs a record in sources.json that allows AI training; else the exit code "
        "is 3 and nothing is written.",
    )
    data = folder_from("LOFI_DATA_DIR")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=data / "processed",
        metavar="DIR",
        help="audio, prompt and lyrics files ($LOFI_DATA_DIR/processed)",
    )
    parser.add_argument(
        "--metadata-dir",
        type=Path,
        default=data / "metadata",
        metavar="DIR",
        help="sources.json and style_mapping.json ($LOFI_DATA_DIR/metadata)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=data / "dataset",
        metavar="DIR",
        help="the data set ($LOFI_DATA_DIR/dataset); replaced if it is one",
    )
    add_build_settings(parser)
    add_common_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run_script(_run, build_parser().parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    own = folder_from("LOFI_CONFIG_DIR") / _PRESETS_NAME
    presets = own if own.is_file() else None
    return convert(args, args.data_dir, args.metadata_dir, args.output_dir, presets)
