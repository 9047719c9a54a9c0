"""The flow-matching objective of ACE-Step 1.5: straight paths from noise to music, velocity as the
target.

x_t = t·noise + (1−t)·music, the denoiser predicts noise − music. Base models draw t from a
logit-normal law (mean −0.4, deviation 1.0) and drop the conditions of 15 % of the rows, so that
guidance has its null condition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.music.playing.schedule import step_times
from luthier.music.spec import ModelSpec
from luthier.music.torch.denoiser import denoise

CONDITION_DROPOUT = 0.15
_TURBO_STEPS, _TURBO_SHIFT = 8, 3.0


@dataclass
class Batch:
    """What one step trains on. B rows, T frames, C channels, L condition tokens, D condition
    channels.
    """

    music: Tensor  # (B, T, C) target latents
    frame_mask: Tensor  # (B, T) 1 where frames are real
    encoder_states: Tensor  # (B, L, D)
    encoder_mask: Tensor  # (B, L)
    context: Tensor  # (B, T, 2·C) source latents and chunk mask


def draw_timesteps(spec: ModelSpec, count: int, generator: torch.Generator) -> Tensor:
    """Times (count,) by the law of the model: logit-normal, or those of turbo's distillation."""
    if spec.is_turbo:
        times = torch.from_numpy(step_times(_TURBO_STEPS, _TURBO_SHIFT, is_turbo=True)).float()
        return times[torch.randint(len(times), (count,), generator=generator)]
    normal = torch.randn(count, generator=generator)
    return torch.sigmoid(spec.timestep_mean + spec.timestep_deviation * normal)


def drop_conditions(batch: Batch, null: Tensor, generator: torch.Generator) -> None:
    """Replace the conditions of a random 15 % of the rows by the null condition (1, 1, D), in
    place.
    """
    rows = torch.rand(len(batch.music), generator=generator) < CONDITION_DROPOUT
    batch.encoder_states = torch.where(
        rows[:, None, None].to(null.device),
        null.to(batch.encoder_states.dtype),
        batch.encoder_states,
    )


def velocity_error(transformer: object, batch: Batch, times: Tensor, noise: Tensor) -> Tensor:
    """Predicted minus true velocity, (B, T, C) in float32."""
    t = times[:, None, None]
    noisy = t * noise + (1 - t) * batch.music
    velocity = denoise(
        transformer,
        noisy,
        times,
        times,
        batch.frame_mask,
        batch.encoder_states,
        batch.encoder_mask,
        batch.context,
    )
    return velocity.float() - (noise - batch.music)


def mean_square(error: Tensor, frame_mask: Tensor) -> Tensor:
    """Mean of squares over the real frames of (B, T, C): a scalar."""
    return (error.square().mean(dim=-1) * frame_mask).sum() / frame_mask.sum()


def flow_loss(transformer: object, batch: Batch, times: Tensor, noise: Tensor) -> Tensor:
    """Mean squared velocity error over the real frames: a scalar."""
    return mean_square(velocity_error(transformer, batch, times, noise), batch.frame_mask)
