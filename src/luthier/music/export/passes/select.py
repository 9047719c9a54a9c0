"""Exported graphs, rewritten to compute the same faster, or in less memory, in ONNX Runtime.

`optimise` knows Oobleck, ACE-Step's autoencoder, and the attention of the denoiser; every other
graph comes back as it is.
"""

from __future__ import annotations

from typing import Any

from luthier.music.export.passes.oobleck import faster
from luthier.music.export.passes.transformer import linear_memory

_CONVOLUTIONAL = ("vae_decoder", "vae_encoder")
_DENOISER = "dit_decoder"


def optimise(proto: Any, name: str) -> Any:
    """The graph or skeleton of the component `name`, faster where a way is known.

    Names, types and axes of inputs and outputs stay, and so do the lengths that are allowed, and
    the weights: nodes make of them what the faster way needs. So a skeleton, whose weights have no
    values yet, can be rewritten, and lowered or folded after.
    """
    if name in _CONVOLUTIONAL:
        return faster(proto)
    return linear_memory(proto) if name == _DENOISER else proto
