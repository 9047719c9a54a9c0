"""What the sampler works on: pieces with their conditions, and how all of a batch are sampled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.music.playing.conditioning import Extent
from luthier.music.playing.schedule import from_source, step_times
from luthier.music.request import MusicRequest
from luthier.music.spec import ModelSpec

Array = NDArray[np.float32]

_RAMP_S = 1.0  # of a repaint that is held all the way: 25 of ACE-Step's frames


@dataclass(frozen=True)
class Conditions:
    """What the denoiser reads of one piece in every step."""

    encoder_hidden_states: Array  # [1, L, D]
    encoder_attention_mask: Array  # [1, L]
    context_latents: Array  # [1, T, 2C]: source and mask


@dataclass(frozen=True)
class Blend:
    """A source to keep outside the windows of a repaint."""

    source: Array  # [1, T, C]
    inside: Array  # [1, T, 1], 1 where music is made
    weights: Array | None  # [1, T, 1], the same with ramps outside; None leaves the end as it is


@dataclass(frozen=True)
class Piece:
    """One piece of music, ready to be sampled."""

    request: MusicRequest  # resolved, with its seed
    extent: Extent
    noise: Array  # [1, T, C]
    draw: np.random.Generator  # of further noise
    first: Conditions
    later: Conditions | None  # take over in the later steps of a cover
    source: Array | None  # [1, T, C], for a cover that starts from it
    blend: Blend | None


@dataclass(frozen=True)
class Plan:
    """How latents are sampled: the same for all pieces of a batch.

    Attributes:
        times: falling, without the final 0.
        later_from: the step from which `Piece.later` counts; None when it never does.
        held_steps: after how many steps a repaint's source is put back.
    """

    times: tuple[float, ...]
    later_from: int | None
    starts_from_source: bool
    held_steps: int
    guidance_scale: float
    guidance_method: str
    guided_from: float
    guided_to: float
    infer_method: str
    sampler_mode: str
    velocity_limit: float
    velocity_kept: float

    def scale_at(self, time: float) -> float:
        """The guidance scale at a time; 1 is none."""
        return self.guidance_scale if self.guided_from <= time <= self.guided_to else 1.0


def plan_of(request: MusicRequest, spec: ModelSpec) -> Plan:
    """The plan of a resolved request."""
    times = step_times(
        request.steps or spec.default_steps,
        request.shift or spec.default_shift,
        is_turbo=spec.is_turbo,
        custom=request.timesteps,
    )
    is_cover = request.task == "cover"
    starts_from_source = is_cover and request.cover_noise_strength > 0
    if starts_from_source:
        times = from_source(times, request.cover_noise_strength)
    switches = is_cover and request.cover_strength < 1
    held = held_share(request) if request.task == "repaint" else 0.0
    return Plan(
        times=tuple(float(time) for time in times),
        later_from=int(len(times) * request.cover_strength) if switches else None,
        starts_from_source=starts_from_source,
        held_steps=round(held * len(times)),
        guidance_scale=request.guidance_scale or 1.0,
        guidance_method=request.guidance_method or spec.guidance_method,
        guided_from=request.cfg_interval_start,
        guided_to=request.cfg_interval_end,
        infer_method=request.infer_method,
        sampler_mode=request.sampler_mode,
        velocity_limit=request.velocity_norm_threshold,
        velocity_kept=request.velocity_ema_factor,
    )


def held_share(request: MusicRequest) -> float:
    """The share of a repaint's steps after which the source is put back outside the windows."""
    shares = {"conservative": 1.0, "balanced": 1.0 - request.repaint_strength, "aggressive": 0.0}
    return shares[request.repaint_mode]


def ramp_frames(request: MusicRequest, spec: ModelSpec) -> int:
    """Frames outside a repaint's window over which its latents blend into the source's."""
    if request.repaint_crossfade_frames is not None:
        return request.repaint_crossfade_frames
    return round(_RAMP_S * spec.frames_per_second * held_share(request))
