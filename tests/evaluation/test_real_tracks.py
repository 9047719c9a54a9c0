"""FAD on the example tracks: it grows with damage, and the two embeddings hear different damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.audio.decode import read_audio
from luthier.audio.resample import resample
from luthier.evaluation.embedding import get_embedding
from luthier.evaluation.frechet import fad

TRACKS = Path(__file__).parents[2] / "examples" / "tracks"
NAMES = ("attic-light", "night-bakery", "window-seat")
RATE, SECONDS = 24_000, 7
Audio = NDArray[np.float32]


@pytest.fixture(scope="module")
def tracks() -> list[Audio]:
    found = []
    for name in NAMES:
        samples, _ = read_audio(TRACKS / f"{name}.mp3", sample_rate=RATE, channels=1)
        found.append(samples[:, 6 * RATE : (6 + SECONDS) * RATE])
    return found


def noisy(samples: Audio, share: float) -> Audio:
    noise = np.random.default_rng(0).normal(size=samples.shape)
    return (samples + share * float(np.std(samples)) * noise).astype(np.float32)


def low_passed(samples: Audio, cutoff_hz: float) -> Audio:
    spectrum = np.fft.rfft(samples, axis=1)
    spectrum /= 1 + (np.fft.rfftfreq(samples.shape[1], 1 / RATE) / cutoff_hz) ** 4
    return np.fft.irfft(spectrum, samples.shape[1], axis=1).astype(np.float32)


def shifted(samples: Audio, semitones: float) -> Audio:
    """Played faster, like a tape: the pitch rises."""
    return resample(samples, RATE, round(RATE / 2 ** (semitones / 12)))


DAMAGE: dict[str, tuple[Callable[[Audio, float], Audio], tuple[float, float]]] = {
    "noise": (noisy, (0.03, 0.3)),
    "low-pass": (low_passed, (4000, 1000)),
    "pitch": (shifted, (2, 5)),
}


@pytest.mark.parametrize("name", ["mel-stats-v1", "notes-v1"])
def test_distance_grows_with_damage(tracks: list[Audio], name: str) -> None:
    embedding = get_embedding(name)

    def windows(samples: list[Audio]) -> NDArray[np.float64]:
        return np.concatenate([embedding.embed(track, RATE) for track in samples])

    reference = windows(tracks)
    assert fad(reference, reference, embedding=name).value < 1e-6
    for change, (little, much) in DAMAGE.values():
        near, far = (
            fad(reference, windows([change(t, amount) for t in tracks]), embedding=name).value
            for amount in (little, much)
        )
        assert 0.01 < near < far / 1.3, change.__name__
