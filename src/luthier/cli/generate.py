"""`luthier generate`: make music from a description, on ONNX Runtime."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.cli import common
from luthier.errors import RequestError

if TYPE_CHECKING:
    from luthier.music.pipeline import Generated, MusicPipeline
    from luthier.music.request import MusicRequest

HELP = "make music from a description"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of a request, and where the result goes."""
    from luthier.music.request import request_fields

    for field in request_fields():
        if field.name == "prompt":
            parser.add_argument("prompt", nargs="?", help=field.help)
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
        default="mini",
        metavar="MODEL",
        help="mini, the built-in model, or a folder of exported graphs",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all cores)")


def run(args: argparse.Namespace) -> int:
    """Generate and write; see `luthier generate --help`."""
    from luthier.audio.encode import WRITABLE_SUFFIXES
    from luthier.music.mini import onnx_folder
    from luthier.music.pipeline import MusicPipeline
    from luthier.music.request import request_fields, request_from, resolve

    values = {field.name: getattr(args, field.name) for field in request_fields()}
    request = request_from({name: value for name, value in values.items() if value is not None})
    if args.out.suffix.lower() not in WRITABLE_SUFFIXES:
        raise RequestError(
            f"--out is {args.out}: its suffix must be one of {', '.join(WRITABLE_SUFFIXES)}."
        )
    if args.threads is not None and args.threads < 1:
        raise RequestError(f"--threads is {args.threads}: it must be at least 1.")
    folder = onnx_folder() if args.model == "mini" else Path(args.model)
    pipeline = MusicPipeline(folder, args.threads)
    if args.dry_run:
        resolved = resolve(request, pipeline.spec)
        length = f"{resolved.batch_size} × {resolved.duration_s:g} s"
        text = f"would make {length} with {pipeline.spec.name}"
        common.emit(args, {"request": resolved.model_dump(mode="json")}, text)
        return 0
    _generate(args, pipeline, request)
    return 0


def _generate(args: argparse.Namespace, pipeline: MusicPipeline, request: MusicRequest) -> None:
    rows, lines = [], []
    for index, made in enumerate(pipeline.generate_batch(request, common.display(args))):
        path = args.out
        if request.batch_size > 1:
            path = path.with_name(f"{path.stem}-{index + 1}{path.suffix}")
        row = _write(path, pipeline, made)
        rows.append(row)
        lines.append(
            f"{path}: {row['duration_s']:g} s, seed {made.seed}, made in {row['seconds']:g} s"
        )
    common.emit(args, {"results": rows}, "\n".join(lines))


def _write(path: Path, pipeline: MusicPipeline, made: Generated) -> dict[str, Any]:
    from luthier.audio.encode import write_audio
    from luthier.files import sha256_of
    from luthier.provenance import input_record, write_run
    from luthier.runtime.manifest import MANIFEST_NAME

    write_audio(path, made.audio, made.sample_rate)
    manifest = sha256_of(pipeline.folder / MANIFEST_NAME)
    recordings = [made.request.source_audio, made.request.reference_audio]
    request = made.request.model_dump(mode="json")
    write_run(
        path,
        stage="generate",
        inputs=[input_record(pipeline.folder, manifest), *(p for p in recordings if p)],
        config={"model": pipeline.spec.name, "manifest_sha256": manifest, "request": request},
        seeds={"noise": made.seed},
    )
    return {
        "path": str(path),
        "seed": made.seed,
        "duration_s": made.audio.shape[1] / made.sample_rate,
        "sample_rate": made.sample_rate,
        "seconds": round(sum(made.timings_s.values()), 3),
        "timings_s": made.timings_s,
        "request": request,
    }
