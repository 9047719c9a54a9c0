"""How far ACE-Step's decoder looks around: what its tiles have to overlap by."""

from __future__ import annotations

import pytest
import torch

from luthier.music.torch.oobleck import Oobleck, context_frames


@pytest.mark.parametrize("ratios", [[2, 4, 4, 6, 10], [2, 4, 6], [2, 2]])
def test_context_is_all_that_a_frame_depends_on(ratios: list[int]) -> None:
    torch.manual_seed(0)
    width = len(ratios)
    vae = Oobleck(
        encoder_hidden_size=4, downsampling_ratios=ratios, channel_multiples=[1] * width,
        decoder_channels=4, decoder_input_channels=3,
    ).eval().double()  # fmt: skip
    reach, hop = context_frames(ratios), int(torch.tensor(ratios).prod())
    middle = reach + 4
    latents = torch.randn(1, 3, 2 * middle + 1, dtype=torch.float64)
    changed = latents.clone()
    changed[..., middle] += 1.0
    with torch.no_grad():
        moved = (vae.decode(latents) - vae.decode(changed)).abs().amax(dim=(0, 1))
    frames = moved.reshape(-1, hop).amax(dim=1).nonzero().flatten()
    assert reach - 1 <= int((frames - middle).abs().max()) <= reach


def test_the_published_shape_needs_nine_frames() -> None:
    assert context_frames([2, 4, 4, 6, 10]) == 9
