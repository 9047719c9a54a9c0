"""`luthier evaluate`: a folder of generated clips against real tracks."""

from __future__ import annotations

import argparse
from pathlib import Path

from luthier.cli import common

HELP = "measure generated clips against real tracks: FAD, tempo, key, levels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `luthier evaluate`."""
    parser.add_argument("generated", type=Path, metavar="DIR", help="folder of generated clips")
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of held-out real tracks",
    )
    parser.add_argument(
        "--requests",
        type=Path,
        metavar="FILE",
        help="JSON list of what was asked of the clips: file, bpm, key, style_id "
        "(default: the records beside the clips)",
    )
    parser.add_argument(
        "--embedding", metavar="NAME", help="what FAD is measured in (default: mel-stats-v1)"
    )
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="name to report (default: the folder's)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the evaluation as JSON")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; 0 when it was done."""
    from luthier.evaluation.embedding import DEFAULT_EMBEDDING, get_embedding
    from luthier.evaluation.evaluate import evaluate_folder
    from luthier.evaluation.listen import audio_files
    from luthier.evaluation.requests import read_requests

    requests = read_requests(args.requests) if args.requests else None
    embedding = get_embedding(args.embedding or DEFAULT_EMBEDDING)
    if args.dry_run:
        clips = audio_files(args.generated, "folder of generated clips")
        tracks = audio_files(args.reference, "reference folder")
        plan = {"clips": clips, "reference": tracks, "embedding": embedding.name}
        text = f"would measure {len(clips)} clips against {len(tracks)} tracks in {embedding.name}"
        common.emit(args, plan, text)
        return 0
    result = evaluate_folder(
        args.generated,
        args.reference,
        requests=requests,
        embedding=embedding.name,
        checkpoint=args.checkpoint,
        out=args.out,
        display=common.display(args),
    )
    common.emit(args, result.to_json(), result.to_text())
    return 0
