"""The denoiser and its conditions in torch, with masks: what training, evaluation in torch and
export share.

diffusers' classes drop the padding masks (a batch of one needs none). Here padded text tokens and
padded latent frames are masked, so that a row gives the same result in any batch; with all-ones
masks this is diffusers' computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor

from luthier.music.torch.model import MusicModel
from luthier.music.torch.timbre import timbre_states
from luthier.runtime.text import token_ids

_MASKED = -1e4  # far below any score, and still finite in float16


def _key_mask(mask: Tensor) -> Tensor:
    """(B, L) of 1 and 0 → additive (B, 1, 1, L)."""
    return ((1.0 - mask) * _MASKED)[:, None, None, :]


def denoise(
    transformer: Any,
    noisy: Tensor,
    timestep: Tensor,
    timestep_r: Tensor,
    latent_mask: Tensor,
    encoder_states: Tensor,
    encoder_mask: Tensor,
    context: Tensor,
) -> Tensor:
    """The predicted velocity, noise − music.

    Args:
        transformer: diffusers' AceStepTransformer1DModel, plain or with a peft adapter injected.
        noisy: (B, T, C), T a multiple of the patch size.
        timestep, timestep_r: (B,) in 0…1; equal but for mean-flow models.
        latent_mask: (B, T), 0 where a frame is padding.
        encoder_states: (B, L, D) from the condition encoder.
        encoder_mask: (B, L), 0 where a token is padding.
        context: (B, T, 2·C), source latents and chunk mask.

    Returns:
        (B, T, C)
    """
    temb_t, modulation_t = transformer.time_embed(timestep)
    temb_r, modulation_r = transformer.time_embed_r(timestep - timestep_r)
    hidden = torch.cat([context, noisy], dim=-1).transpose(1, 2)
    hidden = transformer.proj_in_conv(hidden).transpose(1, 2)
    encoded = transformer.condition_embedder(encoder_states)

    length = hidden.shape[1]
    positions = torch.arange(length, device=hidden.device, dtype=torch.float32)
    rotary = get_1d_rotary_pos_embed(
        transformer.head_dim, positions, theta=transformer.rope_theta, use_real=True,
        repeat_interleave_real=False,
    )  # fmt: skip
    rotary = (rotary[0].to(hidden.dtype), rotary[1].to(hidden.dtype))
    kept = latent_mask.reshape(latent_mask.shape[0], length, -1).amax(dim=-1)
    full = _key_mask(kept).to(hidden.dtype).expand(-1, -1, length, -1)
    distance = (positions[:, None] - positions[None, :]).abs()
    outside = (distance > transformer.config.sliding_window).to(hidden.dtype) * _MASKED
    near = full + outside
    cross = _key_mask(encoder_mask).to(hidden.dtype).expand(-1, -1, length, -1)

    for kind, layer in zip(transformer.layer_types, transformer.layers, strict=True):
        hidden = layer(
            hidden_states=hidden,
            position_embeddings=rotary,
            temb=modulation_t + modulation_r,
            attention_mask=near if kind == "sliding_attention" else full,
            encoder_hidden_states=encoded,
            encoder_attention_mask=cross,
        )
    shift, scale = (transformer.scale_shift_table + (temb_t + temb_r).unsqueeze(1)).chunk(2, dim=1)
    hidden = transformer.norm_out(hidden) * (1 + scale) + shift
    velocity: Tensor = transformer.proj_out_conv(hidden.transpose(1, 2)).transpose(1, 2)
    return velocity


def pack(states: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Join sequences (B, L_i, D) along L and move masked tokens to the end, keeping order: states
    and mask (B, L).
    """
    joined, mask = torch.cat(list(states), dim=1), torch.cat(list(masks), dim=1)
    order = mask.argsort(dim=1, descending=True, stable=True)
    moved = joined.gather(1, order.unsqueeze(-1).expand_as(joined))
    return moved, mask.gather(1, order)


def tokenize(tokenizer: Any, texts: Sequence[str], limit: int) -> tuple[Tensor, Tensor]:
    """Texts → ids and mask, both int64 (B, L), padded to the longest; each row as in playing."""
    rows = [token_ids(tokenizer, text, limit)[0] for text in texts]
    length = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    mask = torch.zeros(len(rows), length, dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.from_numpy(row)
        mask[i, : len(row)] = 1
    return ids, mask


def encode_conditions(
    model: MusicModel,
    prompts: Sequence[str],
    lyrics: Sequence[str],
    references: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Text prompts, lyric prompts and reference latents → encoder states (B, L, D) and mask (B, L)
    of 1.0 and 0.0.

    Args:
        model: the music model; gradients flow into text and condition encoder when enabled.
        prompts: B text prompts (`templates.prompt_text`).
        lyrics: B lyric prompts (`templates.lyrics_text`).
        references: (B, timbre frames, C), or None for no reference: silence.
    """
    spec, encoder = model.spec, model.condition_encoder
    device = encoder.null_condition_emb.device
    text_ids, text_mask = (
        x.to(device) for x in tokenize(model.tokenizer, prompts, spec.max_text_tokens)
    )
    text = model.text_encoder(input_ids=text_ids, attention_mask=text_mask).last_hidden_state

    # A batch of instrumentals shares one lyric row and one reference: encode once, then repeat.
    same = len(set(lyrics)) == 1
    words = lyrics[:1] if same else lyrics
    lyric_ids, lyric_mask = (
        x.to(device) for x in tokenize(model.tokenizer, words, spec.max_lyric_tokens)
    )
    embedded = model.text_encoder.get_input_embeddings()(lyric_ids)
    lyric = encoder.lyric_encoder(inputs_embeds=embedded, attention_mask=lyric_mask)
    timbre_input = model.silence[:, : spec.timbre_frames] if references is None else references
    timbre = timbre_states(encoder.timbre_encoder, timbre_input, with_token=spec.timbre_token)
    timbre = timbre[:, None]
    timbre_mask = torch.ones(timbre.shape[:2], dtype=torch.int64, device=device)

    batch = len(prompts)
    parts = [lyric, timbre, encoder.text_projector(text)]
    masks = [lyric_mask, timbre_mask, text_mask]
    parts = [p.to(parts[2].dtype).expand(batch, -1, -1) for p in parts]
    states, mask = pack(parts, [m.expand(batch, -1) for m in masks])
    return states, mask.to(states.dtype)
