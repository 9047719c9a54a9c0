"""A torch model cut into the graphs of the ONNX contract: a small module each, with example inputs.

The modules compute what diffusers' own forward passes compute, except that padded latent frames and
padded condition tokens can be masked, and that nothing branches on the values of a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.ace_step_transformer import _ace_step_rotary_freqs
from torch import Tensor, nn

from luthier.music.denoiser import denoise
from luthier.music.model import MusicModel


@dataclass(frozen=True)
class Graph:
    """One graph to export.

    Attributes:
        module: computes it; its outputs are named `outputs`, in order.
        inputs: example tensors by name, in the order of `module.forward`.
        outputs: names.
        axes: the names of the axes that may change, by tensor.
        free_phase: the output is audio whose phase is estimated: only its magnitudes are
        determined.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    axes: dict[str, dict[int, str]]
    free_phase: bool = False


def _bias(keep: Tensor) -> Tensor:
    """A mask (1 = keep) as what is added to attention scores."""
    return (1.0 - keep) * torch.finfo(torch.float32).min


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
    """Text, lyrics and timbre → the denoiser's condition; source and mask → its context."""

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
            "full_attention": _bias(keep),
            "sliding_attention": _bias(keep * near.to(x.dtype)),
        }
        return _layers(encoder, x, masks)

    def _timbre(self, latents: Tensor, order: Tensor, batch: int) -> Tensor:
        encoder = self.part.timbre_encoder
        x = encoder.embed_tokens(latents)
        position = torch.arange(x.shape[1], device=x.device)
        near = (position[:, None] - position[None, :]).abs() <= encoder.sliding_window
        masks = {
            "full_attention": None,
            "sliding_attention": _bias(near.to(x.dtype)[None, None]),
        }
        pooled = _layers(encoder, x, masks)[:, 0]
        # References of one item follow each other; each item has as many as the others.
        sorting = order * order.shape[0] + torch.arange(order.shape[0], device=order.device)
        pooled = pooled[torch.argsort(sorting)]
        return pooled.reshape(batch, -1, pooled.shape[-1])


def _layers(encoder: Any, x: Tensor, masks: Mapping[str, Tensor | None]) -> Tensor:
    rotary = _ace_step_rotary_freqs(
        x.shape[1], encoder.head_dim, encoder.rope_theta, x.device, x.dtype
    )
    for layer, kind in zip(encoder.layers, encoder._layer_types, strict=True):
        x = layer(hidden_states=x, position_embeddings=rotary, attention_mask=masks[kind])
    result: Tensor = encoder.norm(x)
    return result


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
        rows: Tensor = self.part(input_ids)
        return rows


@dataclass(frozen=True)
class Lengths:
    """The sizes of example inputs: items, text and lyric tokens, audio codes (frames each)."""

    batch: int = 2
    text: int = 7
    lyric: int = 5
    codes: int = 3


def graphs_of(model: MusicModel, lengths: Lengths | None = None, seed: int = 0) -> list[Graph]:
    """The graphs of a model in the contract's order, with random example inputs."""
    size = lengths or Lengths()
    draw = torch.Generator().manual_seed(seed)
    return [
        _condition_graph(model, size, draw),
        _denoiser_graph(model, size, draw),
        *_code_graphs(model, size, draw),
        *_audio_graphs(model, size, draw),
        *_text_graphs(model, size, draw),
    ]


def _latents(model: MusicModel, size: Lengths) -> tuple[int, int, int]:
    spec = model.spec
    return size.batch, size.codes * spec.pool_window * spec.patch_size, spec.latent_channels


def _condition_graph(model: MusicModel, size: Lengths, draw: torch.Generator) -> Graph:
    latents, spec = _latents(model, size), model.spec
    width = model.text_encoder.config.hidden_size
    timbre = (size.batch, spec.timbre_frames, spec.latent_channels)
    return _graph(
        "condition_encoder",
        ConditionEncoder(model.condition_encoder),
        {
            "text_hidden_states": (_normal(draw, size.batch, size.text, width), "B T_text"),
            "text_attention_mask": (_with_padding(size.batch, size.text), "B T_text"),
            "lyric_hidden_states": (_normal(draw, size.batch, size.lyric, width), "B T_lyric"),
            "lyric_attention_mask": (_with_padding(size.batch, size.lyric), "B T_lyric"),
            "refer_audio_acoustic_hidden_states_packed": (_normal(draw, *timbre), "B"),
            "refer_audio_order_mask": (torch.arange(size.batch), "B"),
            "hidden_states": (_normal(draw, *latents), "B T"),
            "attention_mask": (torch.ones(latents[:2]), "B T"),
            "silence_latent": (_normal(draw, *latents), "B T"),
            "src_latents": (_normal(draw, *latents), "B T"),
            "chunk_masks": (torch.ones(latents), "B T"),
            "is_covers": (torch.arange(size.batch) % 2 == 0, "B"),
            "precomputed_lm_hints_25hz": (_normal(draw, *latents), "B T"),
        },
        {
            "encoder_hidden_states": "B T_enc",
            "encoder_attention_mask": "B T_enc",
            "context_latents": "B T",
        },
    )


def _denoiser_graph(model: MusicModel, size: Lengths, draw: torch.Generator) -> Graph:
    latents, config = _latents(model, size), model.transformer.config
    encoded = (size.batch, size.text, config.encoder_hidden_size or config.hidden_size)
    times = torch.linspace(0.9, 0.3, size.batch)
    return _graph(
        "dit_decoder",
        DitDecoder(model.transformer),
        {
            "hidden_states": (_normal(draw, *latents), "B T"),
            "timestep": (times, "B"),
            "timestep_r": (times, "B"),
            "attention_mask": (torch.ones(latents[:2]), "B T"),
            "encoder_hidden_states": (_normal(draw, *encoded), "B T_enc"),
            "encoder_attention_mask": (_with_padding(size.batch, size.text), "B T_enc"),
            "context_latents": (_normal(draw, *latents[:2], 2 * latents[2]), "B T"),
        },
        {"vt": "B T"},
    )


def _code_graphs(model: MusicModel, size: Lengths, draw: torch.Generator) -> list[Graph]:
    spec = model.spec
    pooled = (size.batch, size.codes * spec.pool_window, spec.latent_channels)
    codes = (size.batch, size.codes, model.audio_tokenizer.config.fsq_dim)
    return [
        _graph(
            "audio_tokenizer",
            AudioTokenizer(model.audio_tokenizer),
            {"hidden_states": (_normal(draw, *pooled), "B T_25hz")},
            {"quantized": "B T_5hz", "indices": "B T_5hz"},
        ),
        _graph(
            "audio_detokenizer",
            AudioDetokenizer(model.audio_detokenizer),
            {"quantized": (_normal(draw, *codes), "B T_5hz")},
            {"lm_hints_25hz": "B T_25hz"},
        ),
    ]


def _audio_graphs(model: MusicModel, size: Lengths, draw: torch.Generator) -> list[Graph]:
    batch, frames, _ = _latents(model, size)
    # Noise is no latent that a decoder has seen: encode some.
    audio = 0.1 * _normal(draw, batch, 2, frames * model.spec.hop_length)
    with torch.no_grad():
        audible = model.vae.encode(audio)
    return [
        _graph(
            "vae_decoder",
            VaeDecoder(model.vae),
            {"latents": (audible, "B _ T")},
            {"audio": "B _ samples"},
            free_phase=hasattr(model.vae, "spectrum"),
        ),
        _graph(
            "vae_encoder",
            VaeEncoder(model.vae),
            {"audio": (audio, "B _ samples")},
            {"latents": "B _ T"},
        ),
    ]


def _text_graphs(model: MusicModel, size: Lengths, draw: torch.Generator) -> list[Graph]:
    ids = torch.randint(
        model.text_encoder.config.vocab_size, (size.batch, size.text), generator=draw
    )
    return [
        _graph(
            "qwen3_embedding_0p6",
            TextEncoder(model.text_encoder),
            {"input_ids": (ids, "B T"), "attention_mask": (torch.ones_like(ids), "B T")},
            {"last_hidden_state": "B T"},
        ),
        _graph(
            "qwen3_token_embedding_0p6",
            TokenEmbedding(model.text_encoder.get_input_embeddings()),
            {"input_ids": (ids, "B T")},
            {"token_embeddings": "B T"},
        ),
    ]


def _normal(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=draw)


def _with_padding(batch: int, length: int) -> Tensor:
    """A mask of ones; of several items the last ends two places earlier."""
    mask = torch.ones(batch, length)
    if batch > 1:
        mask[-1, -2:] = 0.0
    return mask


def _graph(
    name: str,
    module: nn.Module,
    inputs: dict[str, tuple[Tensor, str]],
    outputs: dict[str, str],
    *,
    free_phase: bool = False,
) -> Graph:
    named = {key: axes for key, (_, axes) in inputs.items()} | outputs
    return Graph(
        name=name,
        module=module.eval(),
        inputs={key: tensor for key, (tensor, _) in inputs.items()},
        outputs=tuple(outputs),
        axes={
            key: {i: axis for i, axis in enumerate(axes.split()) if axis != "_"}
            for key, axes in named.items()
        },
        free_phase=free_phase,
    )
