from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.audio.highpass import high_passed

RATE = 24_000
Floats = NDArray[np.float32]


def filtered(sound: Floats, sizes: tuple[int, ...] = (9_600,), rate: int = RATE) -> Floats:
    """The whole of `sound`, handed over in blocks of the given sizes in turn."""
    blocks, start = [], 0
    while start < sound.shape[1]:
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(sound[:, start : start + size])
        start += size
    return np.concatenate(list(high_passed(iter(blocks), rate)), axis=1)


def tone(hertz: float, seconds: float = 3.0, rate: int = RATE) -> Floats:
    t = np.arange(round(seconds * rate)) / rate
    return np.stack([np.sin(2 * np.pi * hertz * t), 0.5 * np.cos(2 * np.pi * hertz * t)]).astype(
        np.float32
    )


def level_db(sound: Floats) -> float:
    middle = sound[:, RATE // 2 : -RATE // 2]
    return float(20 * np.log10(np.sqrt(np.mean(middle**2)) + 1e-12))


def test_an_offset_is_gone_from_the_first_sample_to_the_last() -> None:
    music = tone(440)
    offset = np.array([[0.3], [-0.2]], np.float32)
    assert np.abs(filtered(music + offset) - filtered(music)).max() < 1e-5
    assert np.abs(filtered(np.broadcast_to(offset, (2, 5 * RATE)).copy())).max() < 1e-6


@pytest.mark.parametrize(
    ("hertz", "least", "most"),
    [
        *((5, -200, -60), (15, -200, -60), (25, -7, -5)),
        *((32, -0.1, 0.1), (41.2, -0.01, 0.01), (1000, -0.01, 0.01)),
    ],
)
def test_what_is_heard_stays_and_what_is_not_goes(hertz: float, least: float, most: float) -> None:
    assert least <= level_db(filtered(tone(hertz))) - level_db(tone(hertz)) <= most


def test_nothing_moves() -> None:
    music = tone(220) + tone(660)
    middle = slice(RATE // 2, -RATE // 2)
    assert np.abs(filtered(music) - music)[:, middle].max() < 1e-4


@pytest.mark.parametrize("samples", [1, 2, 100, 5_999, 6_000, 6_001, 12_345, 100_000])
def test_lengths_stay_and_blocks_do_not_matter(samples: int) -> None:
    sound = np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32) + 0.5
    whole = filtered(sound, (samples,))
    assert whole.shape == sound.shape
    assert np.abs(filtered(sound, (1_000, 1, 7_777)) - whole).max() < 1e-5
    assert np.isfinite(whole).all()


def test_numbers_that_are_none_come_out_as_none() -> None:
    sound = tone(440)
    sound[0, 1234] = np.nan
    assert not np.isfinite(filtered(sound)).all()


def test_no_sound_is_none() -> None:
    assert list(high_passed(iter(()), RATE)) == []
