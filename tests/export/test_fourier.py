from __future__ import annotations

import pytest
import torch

from luthier.export.fourier import FactoredSpectrum, with_factored_spectrum
from luthier.music.autoencoder import Spectrum
from tiny import tiny_model


@pytest.mark.parametrize("hop", [24, 160, 480])
def test_two_small_products_are_the_large_one(hop: int) -> None:
    plain, factored = Spectrum(hop), FactoredSpectrum(Spectrum(hop))
    audio = torch.randn(2, 12 * hop, generator=torch.Generator().manual_seed(0))
    spectrum = plain.analyse(audio)
    for expected, found in zip(spectrum, factored.analyse(audio), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(factored.synthesise(*spectrum), audio, atol=1e-5, rtol=0)
    magnitude = torch.hypot(*spectrum)
    for expected, found in zip(
        plain.phase(magnitude, 3), factored.phase(magnitude, 3), strict=True
    ):
        weight = magnitude / magnitude.max()
        torch.testing.assert_close(weight * found, weight * expected, atol=1e-3, rtol=0)


def test_the_twin_shares_weights_and_leaves_the_original() -> None:
    vae = tiny_model().vae
    twin = with_factored_spectrum(vae)
    latents = torch.randn(1, 8, 12, generator=torch.Generator().manual_seed(0))
    assert twin.proj_out.weight is vae.proj_out.weight
    assert isinstance(vae.spectrum, Spectrum)
    assert "spectrum" not in dict(vae.named_children())
    with torch.no_grad():
        torch.testing.assert_close(twin.decode(latents), vae.decode(latents), atol=1e-3, rtol=0)
