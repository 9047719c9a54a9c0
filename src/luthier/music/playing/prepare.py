"""A request → a piece that can be sampled, by its task: what is source, what is masked, what is
told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from luthier.music.playing import conditioning
from luthier.music.playing.conditioning import Window
from luthier.music.playing.encoder import Encoder
from luthier.music.playing.pieces import Blend, Piece, ramp_frames
from luthier.music.playing.rendered_audio import Splice
from luthier.music.request import TASKS_WITH_SOURCE, MusicRequest
from luthier.music.resolve import resolve, room_around
from luthier.music.spec import ModelSpec
from luthier.music.templates import instruction_for

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """A recording to work on.

    Attributes:
        audio: (2, n), with the silence that a repaint puts before and behind it.
        length_s: of the recording without that silence, seconds.
        windows: to make anew, seconds in `audio`; None is its end.
    """

    audio: Array
    length_s: float
    windows: tuple[tuple[float, float | None], ...]


def read_source(encoder: Encoder, request: MusicRequest) -> tuple[MusicRequest, Source | None]:
    """Read a request's source, if it has one, and settle the request by its length.

    Raises:
        RequestError: the model cannot do what is asked for.
        AudioError, PathError: the source is no audio, or not there.
    """
    if request.task not in TASKS_WITH_SOURCE or request.audio_codes:
        return resolve(request, encoder.spec), None
    assert request.source_audio is not None  # a request with such a task has one
    audio, rate = encoder.read(request.source_audio), encoder.spec.sample_rate
    length_s = audio.shape[1] / rate
    resolved = resolve(request, encoder.spec, length_s)
    room = room_around(request, length_s)
    extent = conditioning.extent_of(encoder.spec, resolved.duration_s or 0.0)
    padded = np.pad(audio, ((0, 0), (round(room.before_s * rate), round(room.behind_s * rate))))
    total_s = room.before_s + length_s + room.behind_s
    windows = tuple(
        (
            start + room.before_s,
            None if end is None or end + room.before_s >= total_s else end + room.before_s,
        )
        for start, end in request.windows
    )
    return resolved, Source(padded[:, : extent.samples], length_s, windows)


def prepare(encoder: Encoder, request: MusicRequest, source: Source | None) -> Piece:
    """Encode a resolved request, whose seed is set.

    Raises:
        ModelError: a graph is missing or damaged.
        AudioError, PathError: the reference is no audio, or not there.
    """
    spec = encoder.spec
    extent = conditioning.extent_of(spec, request.duration_s or 0.0)
    frames, quiet = extent.frames, encoder.silence(extent.frames)
    base, hints = quiet, None
    if request.audio_codes:
        base = hints = encoder.hints_of_codes(request.audio_codes, frames)
    elif source is not None:
        base = encoder.fit(encoder.latents_of(source.audio), frames)
        hints = encoder.hints(base) if request.task == "cover" else None
    windows = _windows_in_frames(spec, request, source, frames)
    mask = conditioning.chunk_mask(spec, frames, windows)
    is_repaint = request.task == "repaint"
    told = np.where(mask > 0, quiet, base) if is_repaint else base
    reference = encoder.reference(request.reference_audio)
    instruction = request.instruction or instruction_for(request.task, request.tracks)
    # A repaint that makes its source longer is told the source's length, as in the original.
    duration_s = source.length_s if is_repaint and source is not None else request.duration_s
    encode = partial(
        encoder.conditions, request, mask=mask, reference=reference, duration_s=duration_s
    )
    first = encode(instruction, told, hints=hints)
    later = None
    if request.task == "cover" and request.cover_strength < 1:
        later = encode(instruction_for("text2music"), quiet, hints=None)
    piece = Piece(
        request=request,
        extent=extent,
        noise=np.empty(0, np.float32),
        draw=np.random.default_rng(),
        first=first,
        later=later,
        source=base if request.task == "cover" else None,
        blend=_blend(request, spec, base, windows or ()) if is_repaint else None,
    )
    return with_seed(piece, spec, request.seed or 0)


def with_seed(piece: Piece, spec: ModelSpec, seed: int) -> Piece:
    """The same piece from other noise.

    The noise is numpy's own (`default_rng(seed)`, PCG64): the same on every machine, and another
    than that of the same seed in a torch pipeline.
    """
    draw = np.random.default_rng(seed)
    shape = (1, piece.extent.frames, spec.latent_channels)
    noise = draw.standard_normal(shape, dtype=np.float32)
    request = piece.request.model_copy(update={"seed": seed})
    return replace(piece, request=request, noise=noise, draw=draw)


def splice_of(request: MusicRequest, source: Source | None, spec: ModelSpec) -> Splice | None:
    """Where a repaint's source goes back into the sound; None for other tasks."""
    if request.task != "repaint" or source is None:
        return None
    rate, length = spec.sample_rate, source.audio.shape[1]
    windows = [
        (
            min(round(start * rate), length),
            length if end is None else min(round(end * rate), length),
        )
        for start, end in source.windows
    ]
    ramp = round(request.repaint_crossfade_s * rate)
    return Splice(source.audio, tuple(windows), ramp)


def _windows_in_frames(
    spec: ModelSpec, request: MusicRequest, source: Source | None, frames: int
) -> tuple[Window, ...] | None:
    if request.task not in ("repaint", "lego") or source is None:
        return None
    return tuple(
        conditioning.window_frames(spec, start, end, frames) for start, end in source.windows
    )


def _blend(
    request: MusicRequest, spec: ModelSpec, base: Array, windows: tuple[Window, ...]
) -> Blend:
    def weights(ramp: int) -> Array:
        return conditioning.soft_windows(windows, base.shape[1], ramp)[None, :, None]

    ramp = ramp_frames(request, spec)
    return Blend(base, weights(0), weights(ramp) if ramp else None)
