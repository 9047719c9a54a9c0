"""A generated piece → its file and the record beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthier.audio.encode import Subtype, blocks_writer
from luthier.errors import AdapterError
from luthier.files import sha256_of
from luthier.music.adapters.place import adapter_files
from luthier.music.playing.labels import tags_of
from luthier.music.playing.pipeline import Generated, MusicPipeline
from luthier.music.request import MusicRequest
from luthier.music.request_lora import Lora
from luthier.provenance import check_artefact, input_record, write_run
from luthier.runtime.manifest import MANIFEST_NAME


def piece_path(out: Path, index: int, pieces: int) -> Path:
    """Where piece `index` (from 0) goes: `out` for a single one, else numbered from 1."""
    return out if pieces == 1 else out.with_name(f"{out.stem}-{index + 1}{out.suffix}")


def check_pieces(out: Path, request: MusicRequest) -> None:
    """Refuse, before anything is played, to write over what is read or is not luthier's.

    Raises:
        OutputError: such a file lies where a piece or its record will, or a name is too long.
    """
    recordings = [p for p in (request.source_audio, request.reference_audio) if p]
    inputs = [*recordings, *(one.path for one in request.lora)]
    for index in range(request.batch_size):
        check_artefact(piece_path(out, index, request.batch_size), inputs)


def write_generated(
    path: Path,
    pipeline: MusicPipeline,
    made: Generated,
    *,
    stage: str = "generate",
    subtype: Subtype = "pcm16",
) -> dict[str, Any]:
    """Write a piece block by block, with tags, and its `run.json`; return what is worth telling.

    Raises:
        RequestError: a format that cannot be written.
        StorageError, PathError: the disk refused; nothing is left behind.
    """
    tags = tags_of(made.request, made.seed, pipeline.spec.name)
    with blocks_writer(path, made.sample_rate, subtype=subtype, tags=tags) as writer:
        for block in made.sound.blocks():
            writer.add(block)
    manifest = sha256_of(pipeline.folder / MANIFEST_NAME)
    recordings = [made.request.source_audio, made.request.reference_audio]
    request = made.request.model_dump(mode="json")
    write_run(
        path,
        stage=stage,
        inputs=[
            input_record(pipeline.folder, manifest),
            *(record for one in made.request.lora for record in _adapter_records(one)),
            *(p for p in recordings if p),
        ],
        config={"model": pipeline.spec.name, "manifest_sha256": manifest, "request": request},
        seeds={"noise": made.seed},
    )
    return {
        "path": str(path),
        "seed": made.seed,
        "duration_s": made.sound.samples / made.sample_rate,
        "sample_rate": made.sample_rate,
        "seconds": round(sum(made.timings_s.values()), 3),
        "timings_s": made.timings_s,
        "request": request,
    }


def _adapter_records(one: Lora) -> list[dict[str, str]]:
    digests = (one.sha256, one.config_sha256)
    try:
        files = adapter_files(one.path).all
    except AdapterError:  # it has gone since it was played: what it was is known all the same
        files = (one.path,)
    return [input_record(path, digest) for path, digest in zip(files, digests, strict=False)]
