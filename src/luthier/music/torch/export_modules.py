"""The torch modules behind the graphs of the ONNX contract: a part of the model each.

They compute what diffusers' own forward passes compute, except that padded latent frames and padded
condition tokens can be masked, and that nothing branches on the values of a tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from luthier.music.torch.denoiser import denoise
from luthier.music.torch.timbre import attention_bias, run_layers, timbre_states


class _Cut(nn.Module):
    """One part of the model behind the signature of its graph."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part


class DitDecoder(_Cut):
    """The denoiser: noisy latents, a whole number of tokens long → velocity."""

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        timestep_r: Tensor,
        attention_mask: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        context_latents: Tensor,
    ) -> Tensor:
        return denoise(
            self.part,
            hidden_states,
            timestep,
            timestep_r,
            attention_mask,
            encoder_hidden_states,
            encoder_attention_mask,
            context_latents,
        )


class ConditionEncoder(_Cut):
    """Text, lyrics and timbre → the denoiser's condition; source and mask → its context.

    Args:
        part: diffusers' condition encoder.
        with_timbre_token: a learned token stands in front of the timbre encoder's input.
    """

    def __init__(self, part: Any, *, with_timbre_token: bool) -> None:
        super().__init__(part)
        self._with_timbre_token = with_timbre_token

    def forward(  # noqa: PLR0913 - the contract has thirteen inputs
        self,
        text_hidden_states: Tensor,
        text_attention_mask: Tensor,
        lyric_hidden_states: Tensor,
        lyric_attention_mask: Tensor,
        refer_audio_acoustic_hidden_states_packed: Tensor,
        refer_audio_order_mask: Tensor,
        hidden_states: Tensor,
        attention_mask: Tensor,
        silence_latent: Tensor,
        src_latents: Tensor,
        chunk_masks: Tensor,
        is_covers: Tensor,
        precomputed_lm_hints_25hz: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        text = self.part.text_projector(text_hidden_states)
        lyric = self._lyrics(lyric_hidden_states, lyric_attention_mask)
        timbre = self._timbre(
            refer_audio_acoustic_hidden_states_packed, refer_audio_order_mask, text.shape[0]
        )
        present = torch.ones_like(timbre[:, :, 0])
        tokens, mask = _pack(
            torch.cat([lyric, timbre, text], dim=1),
            torch.cat([lyric_attention_mask, present, text_attention_mask], dim=1),
        )
        source = torch.where(is_covers[:, None, None], precomputed_lm_hints_25hz, src_latents)
        # Beyond the end of an item there is silence, whatever the padding of its batch holds.
        source = torch.where(attention_mask[:, :, None] > 0.5, source, silence_latent)
        # Upstream makes hints from `hidden_states` when none are given; here they are always given.
        source = source + 0.0 * hidden_states
        return tokens, mask > 0.5, torch.cat([source, chunk_masks], dim=-1)

    def _lyrics(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        encoder = self.part.lyric_encoder
        x = encoder.embed_tokens(embeddings)
        position = torch.arange(x.shape[1], device=x.device)
        near = (position[:, None] - position[None, :]).abs() <= encoder.sliding_window
        keep = mask[:, None, None, :]
        masks = {
            "full_attention": attention_bias(keep),
            "sliding_attention": attention_bias(keep * near.to(x.dtype)),
        }
        return run_layers(encoder, x, masks)

    def _timbre(self, latents: Tensor, order: Tensor, batch: int) -> Tensor:
        pooled = timbre_states(
            self.part.timbre_encoder, latents, with_token=self._with_timbre_token
        )
        # References of one item follow each other; each item has as many as the others.
        sorting = order * order.shape[0] + torch.arange(order.shape[0], device=order.device)
        pooled = pooled[torch.argsort(sorting)]
        return pooled.reshape(batch, -1, pooled.shape[-1])


def _pack(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Valid tokens first, in their order; the mask (1 = valid) moves along."""
    length = mask.shape[1]
    # Keys differ, so that the sort needs not be stable.
    key = (mask < 0.5).to(torch.int64) * length + torch.arange(length, device=mask.device)
    order = torch.argsort(key, dim=1)
    packed = torch.gather(tokens, 1, order[:, :, None].expand(-1, -1, tokens.shape[-1]))
    return packed, torch.gather(mask, 1, order)


class AudioTokenizer(_Cut):
    """Latents whose frames fill whole windows → audio codes."""

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        batch, frames, channels = hidden_states.shape
        window = self.part.pool_window_size
        windows = hidden_states.reshape(batch, frames // window, window, channels)
        quantized, indices = self.part(windows)
        return quantized, indices


class AudioCodeEmbedding(_Cut):
    """Audio codes, as numbers → the vectors that the detokenizer reads."""

    def forward(self, indices: Tensor) -> Tensor:
        quantized: Tensor = self.part.quantizer.get_output_from_indices(indices)
        return quantized


class AudioDetokenizer(_Cut):
    """Audio codes, as vectors → latents that say what the codes say."""

    def forward(self, quantized: Tensor) -> Tensor:
        hints: Tensor = self.part(quantized)
        return hints


class VaeDecoder(_Cut):
    """Latents → audio."""

    def forward(self, latents: Tensor) -> Tensor:
        audio: Tensor = self.part.decode(latents)
        return audio


class VaeEncoder(_Cut):
    """Audio → latents."""

    def forward(self, audio: Tensor) -> Tensor:
        latents: Tensor = self.part.encode(audio)
        return latents


class TextEncoder(_Cut):
    """Token numbers of the prompt → hidden states."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        result = self.part(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        states: Tensor = result.last_hidden_state
        return states


class TokenEmbedding(_Cut):
    """Token numbers of the lyrics → rows of the embedding table."""

    def forward(self, input_ids: Tensor) -> Tensor:
        rows: Tensor = self.part.get_input_embeddings()(input_ids)
        return rows
