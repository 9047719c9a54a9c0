"""`luthier generate`: make music from a description, on ONNX Runtime."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli import common
from luthier.cli.adapter_flags import add_adapter_arguments
from luthier.cli.hub_flags import MODEL_HELP, add_hub_arguments, hub_of
from luthier.cli.server_flags import add_server_arguments, server_of
from luthier.cli.thinking import add_thinking_arguments, with_plan
from luthier.errors import RequestError
from luthier.files import check_place
from luthier.models import BUILT_IN, playable_model

if TYPE_CHECKING:
    from luthier.music.playing.pipeline import MusicPipeline
    from luthier.music.request import MusicRequest

HELP = "make music from a description"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of a request, and where the result goes."""
    from luthier.music.request import request_fields

    for field in request_fields():
        if field.name == "prompt":
            parser.add_argument("prompt", nargs="?", help=field.help)
        elif field.name == "lora":
            add_adapter_arguments(parser, field.help)
        elif field.is_switch:
            parser.add_argument(
                field.flag,
                dest=field.name,
                action="store_true",
                default=None,
                help=field.help,
            )
        else:
            metavar = field.name.removesuffix("_s").upper()
            parser.add_argument(field.flag, dest=field.name, metavar=metavar, help=field.help)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("music.wav"),
        metavar="FILE",
        help="where to write: .wav, .flac, .mp3, .ogg or .opus (default music.wav)",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"{MODEL_HELP} (default: {BUILT_IN}); with --server, the name of a model there",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all cores)")
    parser.add_argument(
        "--provider",
        default="auto",
        metavar="NAME",
        help="where to run: cpu, cuda, coreml, directml (default auto: the first that is there)",
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="close graphs that were not used for long to stay below this, e.g. 800M or 4G",
    )
    add_thinking_arguments(parser)
    add_hub_arguments(parser, plays=True)
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Generate and write; see `luthier generate --help`."""
    from luthier.audio.encode import check_writable
    from luthier.music.playing.output_file import check_pieces
    from luthier.music.playing.pipeline import MusicPipeline
    from luthier.music.request import request_fields, request_from
    from luthier.runtime.pool import SHARED, bytes_of

    values = {field.name: getattr(args, field.name) for field in request_fields()}
    request = request_from({name: value for name, value in values.items() if value is not None})
    server = server_of(args)
    check_pieces(args.out, request)
    if server:
        from luthier.cli.generate_remote import run_remote

        return run_remote(args, request, server)
    args.model = args.model or BUILT_IN
    request = with_plan(args, request)
    if args.threads is not None and args.threads < 1:
        raise RequestError(f"--threads is {args.threads}: it must be at least 1.")
    SHARED.set_limit(bytes_of(args.memory_limit) if args.memory_limit else None)
    folder = playable_model(args.model, hub_of(args), args.precision).folder
    pipeline = MusicPipeline(folder, args.threads, provider=args.provider)
    request = pipeline.adapted(request)
    check_writable(args.out, pipeline.spec.sample_rate)
    if args.dry_run:
        return _foretell(args, pipeline, request)
    check_place(args.out)
    _generate(args, pipeline, request)
    return 0


def _foretell(args: argparse.Namespace, pipeline: MusicPipeline, request: MusicRequest) -> int:
    from luthier.music.playing.prepare import read_source

    resolved, _ = read_source(pipeline.encoder, request)
    length = f"{resolved.batch_size} × {resolved.duration_s:g} s"
    text = f"would make {length} with {pipeline.spec.name}"
    common.emit(args, {"request": resolved.model_dump(mode="json")}, text)
    return 0


def _generate(args: argparse.Namespace, pipeline: MusicPipeline, request: MusicRequest) -> None:
    from luthier.music.playing.output_file import piece_path, write_generated

    rows, lines = [], []
    for index, made in enumerate(pipeline.generate_batch(request, common.display(args))):
        path = piece_path(args.out, index, request.batch_size)
        row = write_generated(path, pipeline, made)
        rows.append(row)
        lines.append(
            f"{path}: {row['duration_s']:g} s, seed {made.seed}, made in {row['seconds']:g} s"
        )
    common.emit(args, {"results": rows}, "\n".join(lines))
