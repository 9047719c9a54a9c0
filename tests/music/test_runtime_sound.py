"""Sound on its way out: never NaN, never silent, the same in memory and on the disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.errors import ModelError, StorageError
from luthier.music.playing import rendered_audio as module
from luthier.music.playing.rendered_audio import Ending, Sound, Splice

Floats = NDArray[np.float32]
RATE = 100


def noise(samples: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((2, samples)).astype(np.float32)


def in_blocks(samples: Floats, size: int = 70) -> Iterator[Floats]:
    for start in range(0, samples.shape[1], size):
        yield samples[:, start : start + size]


def test_peak_and_length() -> None:
    sound = Sound(in_blocks(noise(1000)), 950, RATE, Ending(peak_db=-3))
    assert sound.read().shape == (2, 950)
    assert np.abs(sound.read()).max() == pytest.approx(10 ** (-3 / 20), rel=1e-6)
    assert np.array_equal(sound.read(), np.concatenate(list(sound.blocks()), axis=1))


def test_blocks_can_be_read_twice_at_once() -> None:
    sound = Sound(in_blocks(noise(500)), 500, RATE)
    for one, other in zip(sound.blocks(), sound.blocks(), strict=True):
        assert np.array_equal(one, other)


def test_a_long_piece_lies_on_the_disk_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Sound(in_blocks(noise(1000)), 1000, RATE).read()
    monkeypatch.setattr(module, "_IN_MEMORY", 1000)
    assert np.array_equal(Sound(in_blocks(noise(1000)), 1000, RATE).read(), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_never_sound(bad: float) -> None:
    samples = noise(300)
    samples[1, 250] = bad
    with pytest.raises(ModelError, match="NaN"):
        Sound(in_blocks(samples), 300, RATE)


def test_silence_is_never_sound() -> None:
    with pytest.raises(ModelError, match="silence"):
        Sound(in_blocks(1e-6 * noise(300)), 300, RATE)


def test_silence_where_a_repaint_should_be_is_found() -> None:
    source, made = noise(300), noise(300, 1)
    made[:, 100:200] = 0
    with pytest.raises(ModelError, match="silence"):
        Sound(in_blocks(made), 300, RATE, splice=Splice(source, ((100, 200),), 0))


def test_a_splice_keeps_the_source_exactly_and_its_level() -> None:
    source, made = np.clip(0.2 * noise(300), -1, 1), 9 * noise(300, 1)
    sound = Sound(in_blocks(made), 300, RATE, splice=Splice(source, ((100, 200),), 5)).read()
    assert np.array_equal(sound[:, :95], source[:, :95])
    assert np.array_equal(sound[:, 205:], source[:, 205:])
    limit = max(10 ** (-1 / 20), float(np.abs(source).max()))
    assert np.abs(sound[:, 95:205]).max() <= limit + 1e-6
    quiet = Sound(in_blocks(0.1 * made), 300, RATE, splice=Splice(source, ((100, 200),), 0)).read()
    if np.abs(0.1 * made).max() < limit:
        assert np.array_equal(quiet[:, 100:200], 0.1 * made[:, 100:200])


def test_a_constant_part_is_no_music() -> None:
    rate = 24_000
    music = 0.1 * noise(rate)
    sound = Sound(in_blocks(music + 0.4, 5_000), rate, rate, Ending(peak_db=-1)).read()
    assert np.abs(sound.mean(axis=1)).max() < 1e-4
    assert np.abs(sound).max() == pytest.approx(10 ** (-1 / 20), rel=1e-6)
    spectrum = np.abs(np.fft.rfft(sound)) ** 2  # a bin is a hertz
    assert spectrum[:, :20].sum() / spectrum.sum() < 1e-6
    with pytest.raises(ModelError, match="silence"):
        Sound(in_blocks(np.full((2, rate), 0.4, np.float32)), rate, rate)


def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            return None

    monkeypatch.setattr(module.tempfile, "SpooledTemporaryFile", lambda size: Full())
    with pytest.raises(StorageError, match=r"No space left on device.*TMPDIR"):
        Sound(in_blocks(noise(300)), 300, RATE)
