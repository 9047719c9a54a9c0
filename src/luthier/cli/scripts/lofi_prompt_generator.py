"""`scripts/lofi_prompt_generator.py`: prompts for a folder, or for one file in a dialogue."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from luthier.cli.scripts.common import (
    ScriptParser,
    add_common_flags,
    folder_from,
    run_script,
    script_parser,
)

PRESETS_NAME = "style_presets.json"


def build_parser() -> ScriptParser:
    """The script's flags."""
    from luthier.cli.prompts import add_settings

    parser = script_parser("lofi_prompt_generator.py", "style ids → prompt and lyrics files")
    add_common_flags(parser)
    modes = parser.add_subparsers(dest="mode", required=True, metavar="MODE")
    generate = modes.add_parser("generate", help="prompts for every track of a folder")
    generate.add_argument(
        "--audio-dir", type=Path, required=True, metavar="DIR", help="processed audio files"
    )
    generate.add_argument(
        "--style-mapping", type=Path, required=True, metavar="FILE", help="track id -> style ids"
    )
    generate.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="for the texts (beside the audio)"
    )
    add_settings(generate)
    interactive = modes.add_parser("interactive", help="the prompt of one file, in a dialogue")
    interactive.add_argument(
        "--audio-file", type=Path, required=True, metavar="FILE", help="one audio file"
    )
    for mode in (generate, interactive):
        mode.add_argument(
            "--presets",
            type=Path,
            metavar="FILE",
            help=f"style presets (those in $LOFI_CONFIG_DIR/{PRESETS_NAME}, else luthier's own)",
        )
        add_common_flags(mode)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code: 0, or 1 with a sentence."""
    return run_script(_run, build_parser().parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    presets: Path | None = args.presets
    if presets is None and (folder_from("LOFI_CONFIG_DIR") / PRESETS_NAME).is_file():
        presets = folder_from("LOFI_CONFIG_DIR") / PRESETS_NAME
    if args.mode == "interactive":
        from luthier.cli import prompt_dialogue

        return prompt_dialogue.run(args, args.audio_file, presets, None)
    from luthier.cli.prompts import generate

    return generate(args, args.audio_dir, args.style_mapping, presets, args.output_dir)
