"""Attention in elementary operations: what exports to any ONNX opset and trains fast on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.transformers.ace_step_transformer import AceStepAttention
from torch import Tensor, nn


class _PlainAttention:
    """Scaled dot products with grouped queries, as products and a softmax."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        cross = attn.is_cross_attention and encoder_hidden_states is not None
        source = encoder_hidden_states if cross else hidden_states
        q = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, (attn.heads, attn.head_dim)))
        k = attn.norm_k(attn.to_k(source).unflatten(-1, (attn.kv_heads, attn.head_dim)))
        v = attn.to_v(source).unflatten(-1, (attn.kv_heads, attn.head_dim))
        if not cross and image_rotary_emb is not None:
            q, k = _rotate(q, image_rotary_emb), _rotate(k, image_rotary_emb)
        groups = attn.heads // attn.kv_heads
        q = (q * attn.scaling).transpose(1, 2)
        k = k.permute(0, 2, 3, 1).repeat_interleave(groups, dim=1)
        v = v.transpose(1, 2).repeat_interleave(groups, dim=1)
        scores = q @ k
        if attention_mask is not None:
            scores = scores + attention_mask
        mixed = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2, 3)
        result: Tensor = attn.to_out[0](mixed)
        return result


def _rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions on (B, L, heads, dim), Qwen's layout: the halves of `dim` form the pairs."""
    cos, sin = (part[None, :, None, :] for part in rotary)
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin


@contextmanager
def plain_attention(module: nn.Module) -> Iterator[None]:
    """Within the block, the attention layers inside `module` compute in elementary operations."""
    layers = [layer for layer in module.modules() if isinstance(layer, AceStepAttention)]
    before = [layer.processor for layer in layers]
    try:
        for layer in layers:
            layer.processor = _PlainAttention()
        yield
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.processor = processor
