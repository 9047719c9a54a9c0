from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

from luthier.music.guidance import ProjectedGuidance, classifier_free
from luthier.music.schedule import step_times


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
