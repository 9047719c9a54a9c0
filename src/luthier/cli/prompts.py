"""`luthier prompts`: audio and style ids → prompt, lyrics and metadata files; or one by hand."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

HELP = "style tags → prompt and lyrics files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "audio_dir", type=Path, nargs="?", metavar="DIR", help="folder of curated audio"
    )
    what.add_argument(
        "--interactive", type=Path, metavar="FILE", help="write the prompt of one file by hand"
    )
    parser.add_argument(
        "--style-mapping", type=Path, metavar="FILE", help="JSON: track id -> style ids"
    )
    parser.add_argument(
        "--presets", type=Path, metavar="FILE", help="style presets (luthier's own 38)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (beside the audio)")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of how prompts are made, which the contract's script has too."""
    parser.add_argument("--seed", type=int, default=42, help="chooses among moods (42)")
    parser.add_argument(
        "--include-lyrics",
        action="store_true",
        help="vocal styles get a lyrics sheet with section headers to fill in",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what a person has written, too"
    )


def run(args: argparse.Namespace) -> int:
    """Write the files, or open the dialogue; 0 on success."""
    if args.interactive:
        from luthier.cli import prompt_dialogue

        return prompt_dialogue.run(args, args.interactive, args.presets, args.out)
    return generate(args, args.audio_dir, args.style_mapping, args.presets, args.out)


def generate(
    args: argparse.Namespace,
    audio_dir: Path,
    style_mapping: Path | None,
    presets_file: Path | None,
    output_dir: Path | None,
) -> int:
    """Write the files of every track and say what was done; 0 on success."""
    from luthier.cli import common
    from luthier.music.dataset.prompts import (
        PromptSettings,
        known_tracks,
        load_mapping,
        write_prompts,
    )
    from luthier.music.dataset.styles import load_presets

    presets = load_presets(presets_file)
    mapping = None
    if style_mapping:
        mapping = load_mapping(style_mapping, presets, known_tracks(audio_dir))
    prompts = write_prompts(
        audio_dir,
        mapping,
        presets,
        output_dir,
        settings=PromptSettings(args.seed, args.include_lyrics, args.overwrite, args.dry_run),
        display=common.display(args),
    )
    lines = [f"{track}: {prompt.caption}" for track, prompt in prompts.items()]
    kept = {track: prompt.kept for track, prompt in prompts.items() if prompt.kept}
    review = {track: prompt.review for track, prompt in prompts.items() if prompt.needs_review}
    if kept:
        lines.append(f"{len(kept)} tracks keep what a person wrote (--overwrite replaces it):")
        lines += [f"  {track}: {' and '.join(what)}" for track, what in kept.items()]
    if review:
        lines.append(f"{len(review)} tracks should be looked at:")
        lines += [f"  {track}: {' '.join(why)}" for track, why in review.items()]
    if args.dry_run:
        lines.append("Nothing was written.")
    value = {
        "prompts": {track: asdict(prompt) for track, prompt in prompts.items()},
        "needs_review": list(review),
        "kept": kept,
        "output_dir": str(output_dir or audio_dir),
        "written": not args.dry_run,
    }
    common.emit(args, value, "\n".join(lines))
    return 0
