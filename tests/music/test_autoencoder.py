"""mini's autoencoder: the projection loses little, pitch and panorama stay, shapes hold."""

from __future__ import annotations

import math

import pytest
import torch

from luthier.music.torch.autoencoder import MiniAutoencoder, autoencoder_from
from luthier.music.torch.fourier import Spectrum


def tones(seconds: float = 1.0, rate: int = 8000) -> torch.Tensor:
    t = torch.arange(int(seconds * rate)) / rate
    left = 0.4 * torch.sin(2 * math.pi * 220 * t) + 0.2 * torch.sin(2 * math.pi * 660 * t)
    return torch.stack([left, 0.5 * left])[None]


def test_griffin_lim_comes_nearer_with_every_round() -> None:
    spectrum = Spectrum(hop_length=40)
    real, imaginary = spectrum.analyse(tones()[:, 0])
    magnitude = (real**2 + imaginary**2).sqrt()

    def distance(iterations: int) -> float:
        c, s = spectrum.phase(magnitude, iterations)
        re, im = spectrum.analyse(spectrum.synthesise(magnitude * c, magnitude * s))
        return float(((re**2 + im**2).sqrt() - magnitude).norm() / magnitude.norm())

    assert distance(32) < distance(8) < distance(0)


def fitted(channels: int = 12) -> tuple[MiniAutoencoder, torch.Tensor]:
    torch.manual_seed(0)
    model = MiniAutoencoder(
        sample_rate=8000, hop_length=40, latent_channels=channels, width=16, depth=1
    )
    music = torch.cat([tones() * gain for gain in (0.2, 0.5, 1.0)])
    music = music + 0.01 * torch.randn_like(music)
    with torch.no_grad():
        model.fit_projection(model.features(music).flatten(0, 1))
    return model.eval(), music


def test_projection_keeps_what_it_was_fitted_on() -> None:
    model, music = fitted()
    with torch.no_grad():
        features = model.features(music)
        back = model.decode_features(model.encode(music))
    error = (back - features).square().sum() / (features - model.mean).square().sum()
    assert error < 0.5
    latents = model.encode(music)
    assert latents.shape == (3, 12, 200)
    assert float(latents.square().mean().sqrt()) == pytest.approx(1.0, abs=0.1)


def test_stronger_components_stay_louder() -> None:
    model, music = fitted()
    deviation = model.encode(music).std(dim=(0, 2))
    assert float(deviation[0]) > float(deviation[-1])


def test_decoding_keeps_length_pitch_and_panorama() -> None:
    model, music = fitted()
    with torch.no_grad():
        audio = model.decode(model.encode(music[2:]))
    assert audio.shape == music[2:].shape
    # The window is 20 ms: its lines are 50 Hz wide, and each tone shows up within one.
    spectrum = torch.fft.rfft(audio[0, 0]).abs().square()
    near = spectrum[170:270].sum() + spectrum[610:710].sum()
    assert float(near / spectrum.sum()) > 0.9
    ratio = audio[0, 0].square().mean() / audio[0, 1].square().mean()
    assert 2.0 < float(ratio) < 8.0


def test_saved_and_loaded_it_is_the_same(tmp_path: object) -> None:
    model, music = fitted()
    model.save_pretrained(tmp_path)
    again = autoencoder_from(tmp_path)
    torch.testing.assert_close(again.encode(music), model.encode(music))
