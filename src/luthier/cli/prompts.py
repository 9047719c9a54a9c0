"""`luthier prompts`: a folder of audio and style ids → prompt, lyrics and metadata files."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

HELP = "style tags → prompt and lyrics files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("audio_dir", type=Path, metavar="DIR", help="folder of curated audio")
    parser.add_argument(
        "--style-mapping", type=Path, metavar="FILE", help="JSON: track id -> style ids"
    )
    parser.add_argument(
        "--presets", type=Path, metavar="FILE", help="style presets (luthier's own 38)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (beside the audio)")
    parser.add_argument("--seed", type=int, default=42, help="chooses among moods (42)")


def run(args: argparse.Namespace) -> int:
    """Write the files; 0 on success."""
    from luthier.cli import common
    from luthier.dataset.prompts import load_mapping, write_prompts
    from luthier.dataset.styles import load_presets
    from luthier.dataset.tracks import find_audio

    presets = load_presets(args.presets)
    mapping = load_mapping(args.style_mapping) if args.style_mapping else None
    if args.dry_run:
        tracks = sorted(find_audio(args.audio_dir))
        text = "\n".join(f"{track} -> {track}_prompt.txt" for track in tracks)
        common.emit(args, {"planned": tracks}, text)
        return 0
    prompts = write_prompts(
        args.audio_dir, mapping, presets, args.out, seed=args.seed, display=common.display(args)
    )
    lines = [f"{track}: {prompt.caption}" for track, prompt in prompts.items()]
    review = [track for track, prompt in prompts.items() if prompt.needs_review]
    if review:
        lines.append(
            f"{len(review)} tracks have no style in the mapping and were taken as CORE-01: "
            "review their prompts."
        )
    rows = {track: asdict(prompt) for track, prompt in prompts.items()}
    common.emit(args, {"prompts": rows, "needs_review": review}, "\n".join(lines))
    return 0
