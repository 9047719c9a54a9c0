"""From noise to latents: the flow-matching ODE in Euler steps, with guidance. Numpy, one graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.errors import ModelError
from luthier.music.guidance import ProjectedGuidance, classifier_free
from luthier.music.request import MusicRequest
from luthier.progress import Display
from luthier.runtime.session import Graphs

Array = NDArray[np.float32]

_HELD_STEPS = 0.5  # share of a repaint's steps in which the source is put back outside the window
_RAMP_FRAMES = 10  # over which a repaint's window and its source are blended at the end


@dataclass(frozen=True)
class Conditions:
    """What the denoiser reads in every step."""

    encoder_hidden_states: Array  # [1, L, D]
    encoder_attention_mask: Array  # [1, L]
    context_latents: Array  # [1, T, 2C]: source and mask


@dataclass(frozen=True)
class Blend:
    """A source to keep where `mask` is 0."""

    source: Array  # [1, T, C]
    mask: Array  # [1, T, C]


@dataclass(frozen=True)
class Plan:
    """Everything that one run of the denoiser needs."""

    noise: Array  # [1, T, C]
    times: NDArray[np.float64]  # falling, without the final 0
    conditions: Conditions
    later_conditions: Conditions | None  # take over from step `later_from` on
    later_from: int
    null_condition: Array  # [1, 1, D]
    request: MusicRequest  # resolved
    blend: Blend | None = None


def sample(graphs: Graphs, plan: Plan, display: Display) -> Array:
    """Integrate from t = 1 to 0: x ← x − v·(t − t_next). Returns latents [1, T, C].

    Raises:
        ModelError: when a step gives values that are no numbers.
    """
    latents = plan.noise
    guide = ProjectedGuidance() if plan.request.guidance_method == "apg" else classifier_free
    ends = np.append(plan.times[1:], 0.0)
    held = round(_HELD_STEPS * len(plan.times))
    with display.task("denoise", total=len(plan.times)) as task:
        for index, (now, then) in enumerate(zip(plan.times, ends, strict=True)):
            late = plan.later_conditions is not None and index >= plan.later_from
            conditions = plan.later_conditions if late else plan.conditions
            assert conditions is not None
            scale = _scale_at(plan.request, float(now))
            velocity = _velocity(
                graphs, latents, float(now), conditions, plan.null_condition if scale > 1 else None
            )
            step = guide(velocity[:1], velocity[1:], scale) if scale > 1 else velocity
            latents = latents - step * np.float32(now - then)
            if not np.all(np.isfinite(latents)):
                raise ModelError(
                    f"the denoiser made values that are no numbers (NaN) in step {index + 1} of "
                    f"{len(plan.times)}: its graph is damaged or its precision too low."
                )
            if plan.blend is not None and index < held:
                latents = _hold(plan.blend, latents, plan.noise, float(then))
            task.advance()
    return latents if plan.blend is None else _blended(plan.blend, latents)


def _scale_at(request: MusicRequest, now: float) -> float:
    inside = request.cfg_interval_start <= now <= request.cfg_interval_end
    return request.guidance_scale or 1.0 if inside else 1.0


def _velocity(
    graphs: Graphs, latents: Array, now: float, conditions: Conditions, null: Array | None
) -> Array:
    """The velocity with the prompt [1, T, C]; with `null`, also the one without it: [2, T, C]."""
    encoder = conditions.encoder_hidden_states
    if null is not None:
        encoder = np.concatenate([encoder, np.broadcast_to(null, encoder.shape)])
    batch = encoder.shape[0]
    time = np.full(batch, now, dtype=np.float32)
    feeds = {
        "hidden_states": np.repeat(latents, batch, axis=0),
        "timestep": time,
        "timestep_r": time,
        "attention_mask": np.ones((batch, latents.shape[1]), dtype=np.float32),
        "encoder_hidden_states": encoder,
        "encoder_attention_mask": np.repeat(conditions.encoder_attention_mask, batch, axis=0),
        "context_latents": np.repeat(conditions.context_latents, batch, axis=0),
    }
    velocity: Array = graphs.run("dit_decoder", feeds)["vt"]
    return velocity


def _hold(blend: Blend, latents: Array, noise: Array, then: float) -> Array:
    """Outside the window, the source with as much noise as belongs to time `then`."""
    noisy = np.float32(then) * noise + np.float32(1.0 - then) * blend.source
    return np.where(blend.mask > 0.5, latents, noisy)


def _blended(blend: Blend, latents: Array) -> Array:
    """The window from `latents`, the source elsewhere, with a linear ramp just outside it."""
    inside = np.flatnonzero(blend.mask[0, :, 0] > 0.5)
    frames = np.arange(blend.mask.shape[1])
    outside = np.maximum(np.maximum(inside[0] - frames, frames - inside[-1]), 0)
    weight = np.clip(1.0 - outside / (_RAMP_FRAMES + 1), 0.0, 1.0).astype(np.float32)[None, :, None]
    mixed: Array = weight * latents + (1.0 - weight) * blend.source
    return mixed
