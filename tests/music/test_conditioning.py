from __future__ import annotations

import numpy as np
import pytest

from luthier.errors import ModelError
from luthier.music.playing import conditioning
from tiny import SPEC


@pytest.mark.parametrize("duration_s", [1.0, 1.0001, 3.21, 9.99, 60.0])
def test_frames_cover_the_samples(duration_s: float) -> None:
    extent = conditioning.extent_of(SPEC, duration_s)
    assert extent.samples == round(duration_s * SPEC.sample_rate)
    assert extent.frames * SPEC.hop_length >= extent.samples
    assert (extent.frames - 1) * SPEC.hop_length < max(extent.samples, 3200)
    assert extent.frames >= SPEC.min_frames


def test_silence_is_never_tiled() -> None:
    latent = np.zeros((1, 10, 8), np.float32)
    assert conditioning.silence(latent, 10).shape == (1, 10, 8)
    with pytest.raises(ModelError, match="shorter duration"):
        conditioning.silence(latent, 11)


def test_fit_cuts_and_pads() -> None:
    silence = np.full((1, 10, 1), 9, np.float32)
    source = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
    assert conditioning.fit(source, silence, 2)[0, :, 0].tolist() == [0, 1]
    assert conditioning.fit(source, silence, 6)[0, :, 0].tolist() == [0, 1, 2, 3, 9, 9]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0.0, None, (0, 100)), (0.5, 1.0, (25, 50)), (0.5, 9.0, (25, 100)), (9.0, None, (99, 100))],
)
def test_windows_are_clamped(start: float, end: float | None, expected: tuple[int, int]) -> None:
    assert conditioning.window_frames(SPEC, start, end, 100) == expected


def test_mask_is_one_inside() -> None:
    mask = conditioning.chunk_mask(SPEC, 10, [(2, 5), (9, 10)])
    assert mask.shape == (1, 10, SPEC.latent_channels)
    assert mask[0, :, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("samples", [10, 299, 300, 1000])
def test_reference_has_the_asked_length(samples: int) -> None:
    audio = np.tile(np.arange(samples, dtype=np.float32), (2, 1))
    segments = conditioning.reference_segments(audio, 100, 3.0)
    assert segments.shape == (2, 300)
    assert segments[0, 0] == 0


def test_reference_takes_start_middle_and_end() -> None:
    audio = np.tile(np.arange(900, dtype=np.float32), (2, 1))
    segments = conditioning.reference_segments(audio, 100, 3.0)
    assert segments[0, [0, 100, 200, 299]].tolist() == [0, 300, 800, 899]


def test_soft_windows_fall_outside_and_are_steeper_where_there_is_less_room() -> None:
    weights = conditioning.soft_windows([(5, 7)], 12, 3)
    assert weights.tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert conditioning.soft_windows([(1, 2)], 4, 3).tolist() == pytest.approx(
        [0.5, 1, 2 / 3, 1 / 3]
    )
    assert conditioning.soft_windows([(0, 2)], 4, 0).tolist() == [1, 1, 0, 0]
    assert conditioning.soft_windows([], 3, 5).tolist() == [0, 0, 0]


def test_soft_windows_are_the_same_in_parts() -> None:
    windows = [(5, 7), (20, 30)]
    whole = conditioning.soft_windows(windows, 40, 6)
    parts = [conditioning.soft_windows(windows, 40, 6, slice(a, a + 10)) for a in range(0, 40, 10)]
    assert np.array_equal(whole, np.concatenate(parts))
