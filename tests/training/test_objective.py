"""The objective: the right law of times, the right target, padding that does not count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from luthier.music.playing.schedule import step_times
from luthier.music.training.objective import Batch, draw_timesteps, drop_conditions, flow_loss
from tiny import SPEC, tiny_model


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(rows: int = 4, frames: int = 20) -> Batch:
    g = generator(1)
    channels = SPEC.latent_channels
    return Batch(
        music=torch.randn(rows, frames, channels, generator=g),
        frame_mask=torch.ones(rows, frames),
        encoder_states=torch.randn(rows, 5, 32, generator=g),
        encoder_mask=torch.ones(rows, 5),
        context=torch.randn(rows, frames, 2 * channels, generator=g),
    )


@pytest.mark.parametrize(("mean", "deviation"), [(-0.4, 1.0), (0.8, 1.2)])
def test_times_follow_the_models_law(mean: float, deviation: float) -> None:
    spec = SPEC.model_copy(update={"timestep_mean": mean, "timestep_deviation": deviation})
    logits = torch.logit(draw_timesteps(spec, 20_000, generator()).double())
    assert float(logits.mean()) == pytest.approx(mean, abs=0.05)
    assert float(logits.std()) == pytest.approx(deviation, abs=0.05)


def test_turbo_draws_the_times_it_was_distilled_at() -> None:
    spec = SPEC.model_copy(update={"is_turbo": True})
    drawn = set(draw_timesteps(spec, 500, generator()).tolist())
    expected = torch.from_numpy(step_times(8, 3.0, is_turbo=True)).float().tolist()
    assert drawn == set(expected)


def test_a_denoiser_that_knows_the_music_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    data, g = batch(), generator(2)
    noise = torch.randn(data.music.shape, generator=g)
    times = torch.tensor([0.1, 0.4, 0.7, 1.0])

    def oracle(_: object, noisy: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        return (noisy - data.music) / t[:, None, None]

    monkeypatch.setattr("luthier.music.training.objective.denoise", oracle)
    assert float(flow_loss(None, data, times, noise)) < 1e-9


@torch.no_grad()
def test_padded_frames_do_not_count() -> None:
    model, data = tiny_model(), batch()
    noise = torch.randn(data.music.shape, generator=generator(3))
    times = torch.full((4,), 0.5)
    data.frame_mask[:, 16:] = 0
    before = flow_loss(model.transformer, data, times, noise)
    data.music[:, 16:] = 50.0
    data.context[:, 16:] = -50.0
    after = flow_loss(model.transformer, data, times, noise)
    assert float(after) == pytest.approx(float(before), rel=1e-4)


def test_some_fifteen_per_cent_of_the_rows_lose_their_conditions() -> None:
    data = batch(rows=4000, frames=2)
    null = torch.full((1, 1, 32), 7.0)
    drop_conditions(data, null, generator())
    dropped = (data.encoder_states == 7.0).all(dim=(1, 2)).float().mean()
    assert float(dropped) == pytest.approx(0.15, abs=0.02)
