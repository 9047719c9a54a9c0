from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

from luthier.music.playing.guidance import ProjectedGuidance, angle_based, classifier_free
from luthier.music.playing.schedule import from_source, step_times


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (1.0, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (2.0, [1, 0.933333, 0.857143, 0.769231, 0.666667, 0.545455, 0.4, 0.222222]),
        (3.0, [1, 0.954545, 0.9, 0.833333, 0.75, 0.642857, 0.5, 0.3]),
        (2.4, [1, 0.933333, 0.857143, 0.769231, 0.666667, 0.545455, 0.4, 0.222222]),
    ],
)
def test_turbo_tables(shift: float, expected: list[float]) -> None:
    assert step_times(8, shift, is_turbo=True) == pytest.approx(expected, abs=1e-6)


def test_base_times_fall_from_one() -> None:
    times = step_times(50, 2.4)
    assert times[0] == 1.0
    assert np.all(np.diff(times) < 0)
    assert len(times) == 50
    assert times[25] == pytest.approx(2.4 * 0.5 / (1 + 1.4 * 0.5))


def test_custom_times() -> None:
    assert step_times(8, 1.0, custom=(0.97, 0.5, 0.0)).tolist() == [0.97, 0.5]
    assert step_times(8, 1.0, custom=(0.97, 0.5), is_turbo=True).tolist() == [0.954545, 0.5]


def test_projected_guidance_is_diffusers() -> None:
    rng = np.random.default_rng(0)
    ours, momentum = ProjectedGuidance(), MomentumBuffer(momentum=-0.75)
    for _ in range(3):
        one, other = rng.standard_normal((2, 1, 40, 8)).astype(np.float32)
        expected = normalized_guidance(
            torch.from_numpy(one),
            torch.from_numpy(other),
            guidance_scale=6.0,
            momentum_buffer=momentum,
            eta=0.0,
            norm_threshold=2.5,
            use_original_formulation=True,
            norm_dim=(1,),
        )
        assert ours(one, other, 7.0) == pytest.approx(expected.numpy(), abs=1e-5)


def test_classifier_free_guidance_extrapolates() -> None:
    one, other = np.full((1, 2, 1), 3, np.float32), np.ones((1, 2, 1), np.float32)
    assert classifier_free(one, other, 2.0).tolist() == [[[5.0], [5.0]]]
    assert classifier_free(one, other, 1.0).tolist() == one.tolist()


def test_a_cover_from_its_source_starts_at_the_nearest_time() -> None:
    times = step_times(8, 1.0)
    assert from_source(times, 0.5).tolist() == [0.5, 0.375, 0.25, 0.125]
    assert from_source(times, 0.01).tolist() == times.tolist()
    assert from_source(times, 1.0).tolist() == [0.125]


def angles_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    cosine = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.arccos(np.clip(cosine, -1, 1))


@pytest.mark.parametrize(("scale", "angle"), [(2.0, 0.1), (5.0, 0.1), (20.0, 0.4)])
def test_angle_based_guidance_turns_each_frame_by_a_limited_angle(
    scale: float, angle: float
) -> None:
    """Predictions of equal length, `angle` apart: the guided one lies beyond the prompted one."""
    time, turn = 0.7, np.stack([np.cos([0.0, angle]), np.sin([0.0, angle])], axis=-1)
    plain, prompted = turn[0] * np.ones((1, 3, 1)), turn[1] * np.ones((1, 3, 1))
    x = np.random.default_rng(0).standard_normal((1, 3, 2))
    velocities = [((x - music) / time).astype(np.float32) for music in (prompted, plain)]
    guided = angle_based(*velocities, scale, x.astype(np.float32), time)
    result = x - time * guided
    expected = min((scale - 1 + 1e-3) * angle, 3.14 / 6)
    sideways = np.cos(expected) * prompted + np.sin(expected) / np.sin(angle) * (
        prompted - plain - np.sum((prompted - plain) * plain, -1, keepdims=True) * plain
    )
    assert result == pytest.approx(sideways, abs=1e-5)
    if expected < 0.5:
        assert angles_between(result, plain) == pytest.approx(angle + expected, abs=0.05)


def test_angle_based_guidance_leaves_equal_predictions() -> None:
    rng = np.random.default_rng(1)
    velocity, x = rng.standard_normal((2, 1, 9, 4)).astype(np.float32)
    assert angle_based(velocity, velocity, 7.0, x, 0.5) == pytest.approx(velocity, abs=1e-3)
    silent = np.zeros((1, 2, 4), np.float32)
    assert np.all(np.isfinite(angle_based(silent, silent, 7.0, silent, 0.5)))
