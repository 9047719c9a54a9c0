from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers_features import constants_of, features

from luthier.music.training.batches import (
    Constants,
    crop_frames,
    derived_seed,
    training_example,
    validation_examples,
)
from luthier.music.training.feature_cache import Entry
from luthier.training.config import TrainConfig
from luthier.training.schedule import rate_at
from tiny import SPEC

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def material(
    dataset_dir: Path, model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Entry], Constants]:
    folder = tmp_path_factory.mktemp("cache")
    return features(dataset_dir, model_dir, folder), constants_of(model_dir)


def test_a_step_is_always_the_same_and_no_two_are(
    material: tuple[list[Entry], Constants], config: Make
) -> None:
    first, again, other, next_ = (
        training_example(*material, config(seed=seed), step)
        for seed, step in ((1, 5), (1, 5), (2, 5), (1, 6))
    )
    for name, value in vars(first.batch).items():
        assert torch.equal(value, getattr(again.batch, name))
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.times, again.times)
    assert not torch.equal(first.noise, other.noise)
    assert not torch.equal(first.noise, next_.noise)


def test_every_track_comes_once_in_a_pass(
    material: tuple[list[Entry], Constants], config: Make
) -> None:
    entries, constants = material
    settings = config(batch_size=2, crop_start="first", crop_s=0.5)
    starts = {tuple(e.variants[0].target.read("latents")[0].tolist()): e.key for e in entries}
    seen: Counter[str] = Counter()
    for step in range(9):  # 18 crops: six passes over three tracks
        batch = training_example(entries, constants, settings, step).batch
        seen.update(starts[tuple(row[0].tolist())] for row in batch.music)
        if step % 3 == 2:
            assert set(seen.values()) == {2 * (step + 1) // 3}


def test_crops_begin_on_bar_lines(material: tuple[list[Entry], Constants], config: Make) -> None:
    entries, constants = material
    long = [max(entries, key=lambda e: e.frames)]  # five seconds: bars at 0, 100, 200
    latents = long[0].variants[0].target.read("latents")
    found = set()
    for step in range(20):
        batch = training_example(long, constants, config(batch_size=1), step).batch
        at = [
            i for i in range(len(latents) - 49) if torch.equal(latents[i : i + 50], batch.music[0])
        ]
        found.add(at[0])
    assert found == {0, 100, 200}


def test_a_short_track_is_filled_with_silence_that_does_not_count(
    material: tuple[list[Entry], Constants], config: Make
) -> None:
    entries, constants = material
    batch = training_example(entries, constants, config(crop_s=10.0, batch_size=3), 0).batch
    assert batch.music.shape == (3, max(e.frames for e in entries), SPEC.latent_channels)
    real = sorted(int(n) for n in batch.frame_mask.sum(dim=1))
    assert real == sorted(e.frames for e in entries)
    for music, mask in zip(batch.music, batch.frame_mask, strict=True):
        silent = mask == 0
        assert torch.equal(music[silent], constants.silence[0, : len(music)][silent])
    channels = SPEC.latent_channels
    assert torch.equal(
        batch.context[..., :channels],
        constants.silence[:, : batch.music.shape[1]].expand(3, -1, -1),
    )
    assert (batch.context[..., channels:] == 1).all()


def test_a_share_of_the_conditions_is_dropped(
    material: tuple[list[Entry], Constants], config: Make
) -> None:
    entries, constants = material
    dropped = total = 0
    for step in range(40):
        batch = training_example(entries, constants, config(batch_size=8), step).batch
        is_null = (batch.encoder_states == constants.null_condition).all(dim=2).all(dim=1)
        dropped, total = dropped + int(is_null.sum()), total + 8
    assert 0.08 < dropped / total < 0.23


def test_validation_is_always_the_same(
    material: tuple[list[Entry], Constants], config: Make
) -> None:
    entries, constants = material
    a, b = (validation_examples(entries, constants, config(batch_size=2)) for _ in range(2))
    assert len(a) == 8  # two batches at four times
    assert all(torch.equal(x.noise, y.noise) for x, y in zip(a, b, strict=True))
    assert {float(t) for e in a for t in e.times} == {0.125, 0.375, 0.625, 0.875}


def test_crops_are_whole_tokens(material: tuple[list[Entry], Constants]) -> None:
    entry = material[0][0]
    odd = replace(entry, frames=33, bar_frames=0.0)
    assert crop_frames(SPEC, 10.0, [odd]) == 34
    assert crop_frames(SPEC, 0.5, [odd]) == 26


def test_seeds_are_spread() -> None:
    seeds = {derived_seed(seed, "step", step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900


def test_the_learning_rate_rises_and_falls(config: Make) -> None:
    settings = config(max_steps=100, warm_up=50)
    rates = [rate_at(step, settings, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == max(rates) == pytest.approx(1.0)  # a tenth of all steps
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=0.002)
    linear = [rate_at(s, config(max_steps=100, schedule="linear"), 1.0) for s in (10, 55, 100)]
    assert linear == pytest.approx([1.0, 0.505, 0.01])
    assert rate_at(90, config(max_steps=100, schedule="constant"), 1.0) == 1.0
