"""Reference latents → one state that says how they sound: the timbre encoder of ACE-Step 1.5.

diffusers 0.42.1 pools the first frame's state in every model. The XL models were trained with a
learned token in front of the frames, whose state is the timbre (ace-step/ACE-Step-1.5#1001).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.transformers.ace_step_transformer import _ace_step_rotary_freqs
from torch import Tensor


def attention_bias(keep: Tensor) -> Tensor:
    """A mask (1 = keep) as what is added to attention scores."""
    return (1.0 - keep) * torch.finfo(torch.float32).min


def run_layers(encoder: Any, states: Tensor, masks: Mapping[str, Tensor | None]) -> Tensor:
    """The layers of a condition encoder and its norm: (B, L, D) → (B, L, D).

    Args:
        encoder: diffusers' lyric or timbre encoder.
        states: what its `embed_tokens` made.
        masks: additive, by the kind of layer ("full_attention", "sliding_attention").
    """
    rotary = _ace_step_rotary_freqs(
        states.shape[1], encoder.head_dim, encoder.rope_theta, states.device, states.dtype
    )
    for layer, kind in zip(encoder.layers, encoder._layer_types, strict=True):
        states = layer(hidden_states=states, position_embeddings=rotary, attention_mask=masks[kind])
    result: Tensor = encoder.norm(states)
    return result


def timbre_states(encoder: Any, latents: Tensor, *, with_token: bool) -> Tensor:
    """The timbre (B, D) of reference latents (B, T, C).

    Args:
        encoder: diffusers' timbre encoder.
        latents: of recordings, or of silence.
        with_token: put the learned token first, as the XL models want it.
    """
    states = encoder.embed_tokens(latents)
    if with_token:
        token = encoder.special_token.to(states.dtype).expand(states.shape[0], -1, -1)
        states = torch.cat([token, states], dim=1)
    position = torch.arange(states.shape[1], device=states.device)
    near = (position[:, None] - position[None, :]).abs() <= encoder.sliding_window
    masks = {
        "full_attention": None,
        "sliding_attention": attention_bias(near.to(states.dtype)[None, None]).to(states.dtype),
    }
    return run_layers(encoder, states, masks)[:, 0]
