"""The transform in two factors: NumPy's own, there and back; its phases are fast Griffin–Lim's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from luthier.music.torch.fourier import EXACT, Spectrum

Doubles = NDArray[np.float64]


class Reference:
    """What `Spectrum` does, with NumPy's transforms in float64."""

    def __init__(self, hop: int) -> None:
        self.hop, self.n = hop, 4 * hop
        self.window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n) / self.n)
        self.side = (self.n - hop) // 2

    def analyse(self, audio: Doubles) -> NDArray[np.complex128]:
        padded = np.pad(audio, ((0, 0), (self.side, self.side)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n, axis=1)[:, :: self.hop]
        return np.fft.rfft(frames * self.window)

    def synthesise(self, spectrum: NDArray[np.complex128]) -> Doubles:
        frames = np.fft.irfft(spectrum) * self.window
        total = np.zeros((len(frames), (frames.shape[1] + 3) * self.hop))
        energy = np.zeros(total.shape[1])
        for t in range(frames.shape[1]):
            span = slice(t * self.hop, t * self.hop + self.n)
            total[:, span] += frames[:, t]
            energy[span] += self.window**2
        kept = slice(self.side, self.side + frames.shape[1] * self.hop)
        return (total / np.maximum(energy, 1e-3))[:, kept]

    def phase(self, magnitude: Doubles, iterations: int, momentum: float) -> NDArray[np.complex128]:
        turns = np.outer(np.arange(magnitude.shape[1]), np.arange(magnitude.shape[2])) % 4
        found, last = np.exp(1j * np.pi / 2 * turns)[None], 0.0
        for i in range(iterations):
            spectrum = self.analyse(self.synthesise(magnitude * found))
            ahead = spectrum + (momentum if i else 0.0) * (spectrum - last)
            found, last = ahead / np.sqrt(np.abs(ahead) ** 2 + 1e-12), spectrum
        return found


def noise(*shape: int) -> Doubles:
    return np.random.default_rng(0).normal(size=shape)


def single(values: Doubles) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize("hop", [10, 24, 160, 480])
def test_it_is_the_fourier_transform_and_inverts(hop: int) -> None:
    spectrum, audio = Spectrum(hop), noise(2, 12 * hop)
    real, imaginary = spectrum.analyse(single(audio))
    expected = Reference(hop).analyse(audio)
    assert real.shape == imaginary.shape == expected.shape == (2, 12, 2 * hop + 1)
    scale = np.abs(expected).max()
    assert np.abs(torch.complex(real, imaginary).numpy() - expected).max() < 1e-6 * scale
    again = spectrum.synthesise(real, imaginary)
    assert again.numpy() == pytest.approx(audio, abs=1e-5)


@pytest.mark.parametrize("hop", [24, 160])
def test_any_spectra_are_joined_by_least_squares(hop: int) -> None:
    # Not one that a sound has: the overlapping frames disagree.
    real, imaginary = noise(2, 9, 2 * hop + 1), noise(1, 9, 2 * hop + 1).repeat(2, axis=0)
    # The first and the last line of a real signal have no imaginary part.
    imaginary[..., [0, -1]] = 0.0
    expected = Reference(hop).synthesise(real + 1j * imaginary)
    found = Spectrum(hop).synthesise(single(real), single(imaginary)).numpy()
    assert found == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_phases_are_those_of_fast_griffin_lim(iterations: int) -> None:
    reference = Reference(24)
    magnitude = np.abs(reference.analyse(noise(2, 12 * 24)))
    expected = reference.phase(magnitude, iterations, momentum=0.99)
    c, s = Spectrum(24).phase(single(magnitude), iterations, momentum=0.99)
    # A phase counts as much as what it belongs to.
    difference = magnitude / magnitude.max() * (torch.complex(c, s).numpy() - expected)
    assert np.abs(difference).max() < 1e-3


def test_tables_are_no_part_of_a_saved_model() -> None:
    spectrum = Spectrum(24)
    assert not spectrum.state_dict()
    dtypes = {table.dtype for name, table in spectrum.named_buffers() if name.startswith(EXACT)}
    assert dtypes == {torch.float32}
