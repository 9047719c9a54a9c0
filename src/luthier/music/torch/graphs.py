"""The graphs of the ONNX contract: which module each is, with names, axes and example inputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from luthier.music.spec import AUDIO_CODES
from luthier.music.torch.export_modules import (
    AudioCodeEmbedding,
    AudioDetokenizer,
    AudioTokenizer,
    ConditionEncoder,
    DitDecoder,
    TextEncoder,
    TokenEmbedding,
    VaeDecoder,
    VaeEncoder,
)
from luthier.music.torch.model import MusicModel


@dataclass(frozen=True)
class Graph:
    """One graph to export.

    Attributes:
        component: the part of the model that it is cut from.
        module: computes it; its outputs are named `outputs`, in order.
        inputs: example tensors by name, in the order of `module.forward`.
        outputs: names.
        axes: the names of the axes that may change, by tensor.
        fixed: lengths of other axes, where tracing would not see that they are fixed.
        free_phase: the output is audio whose phase is estimated: only its magnitudes are
        determined.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    axes: dict[str, dict[int, str]]
    free_phase: bool = False
    component: str = ""
    fixed: dict[str, dict[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lengths:
    """The sizes of example inputs: items, text and lyric tokens, audio codes (frames each)."""

    batch: int = 2
    text: int = 7
    lyric: int = 5
    codes: int = 3


def graphs_of(
    model: MusicModel,
    lengths: Lengths | None = None,
    seed: int = 0,
    components: Collection[str] | None = None,
) -> list[Graph]:
    """The graphs of a model in the contract's order, with random example inputs.

    Args:
        lengths: of the inputs.
        seed: of their values.
        components: make only the graphs that are cut from these; all when not given.
    """
    size = lengths or Lengths()
    draw = torch.Generator().manual_seed(seed)
    makers = {
        "condition_encoder": _condition_graphs,
        "transformer": _denoiser_graphs,
        "audio_tokenizer": _tokenizer_graphs,
        "audio_detokenizer": _detokenizer_graphs,
        "vae": _audio_graphs,
        "text_encoder": _text_graphs,
    }
    wanted = makers.keys() if components is None else components
    return [
        replace(graph, component=part)
        for part, make in makers.items()
        if part in wanted
        for graph in make(model, size, draw)
    ]


def _latents(model: MusicModel, size: Lengths) -> tuple[int, int, int]:
    spec = model.spec
    return size.batch, size.codes * spec.pool_window * spec.patch_size, spec.latent_channels


def _condition_graphs(model: MusicModel, size: Lengths, draw: torch.Generator) -> list[Graph]:
    latents, spec = _latents(model, size), model.spec
    width = model.text_encoder.config.hidden_size
    timbre = (size.batch, spec.timbre_frames, spec.latent_channels)
    return [
        _graph(
            "condition_encoder",
            ConditionEncoder(model.condition_encoder, with_timbre_token=spec.timbre_token),
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
                "encoder_hidden_states": f"B T_enc {model.condition_encoder.config.hidden_size}",
                "encoder_attention_mask": "B T_enc",
                "context_latents": f"B T {2 * spec.latent_channels}",
            },
        )
    ]


def _denoiser_graphs(model: MusicModel, size: Lengths, draw: torch.Generator) -> list[Graph]:
    latents, config = _latents(model, size), model.transformer.config
    encoded = (size.batch, size.text, config.encoder_hidden_size or config.hidden_size)
    times = torch.linspace(0.9, 0.3, size.batch)
    return [
        _graph(
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
            {"vt": f"B T {latents[2]}"},
        )
    ]


def _tokenizer_graphs(model: MusicModel, size: Lengths, draw: torch.Generator) -> list[Graph]:
    spec = model.spec
    pooled = (size.batch, size.codes * spec.pool_window, spec.latent_channels)
    width = model.audio_tokenizer.config.fsq_dim
    return [
        _graph(
            "audio_tokenizer",
            AudioTokenizer(model.audio_tokenizer),
            {"hidden_states": (_normal(draw, *pooled), "B T_25hz")},
            {"quantized": f"B T_5hz {width}", "indices": "B T_5hz 1"},
        ),
        _graph(
            "audio_code_embedding",
            AudioCodeEmbedding(model.audio_tokenizer),
            {"indices": (_code_numbers(draw, size), "B T_5hz")},
            {"quantized": f"B T_5hz {width}"},
        ),
    ]


def _detokenizer_graphs(model: MusicModel, size: Lengths, draw: torch.Generator) -> list[Graph]:
    codes = (size.batch, size.codes, model.audio_tokenizer.config.fsq_dim)
    return [
        _graph(
            "audio_detokenizer",
            AudioDetokenizer(model.audio_detokenizer),
            {"quantized": (_normal(draw, *codes), "B T_5hz")},
            {"lm_hints_25hz": f"B T_25hz {model.spec.latent_channels}"},
        )
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
            {"audio": "B 2 samples"},
            free_phase=hasattr(model.vae, "spectrum"),
        ),
        _graph(
            "vae_encoder",
            VaeEncoder(model.vae),
            {"audio": (audio, "B _ samples")},
            {"latents": f"B {model.spec.latent_channels} T"},
        ),
    ]


def _text_graphs(model: MusicModel, size: Lengths, draw: torch.Generator) -> list[Graph]:
    width = model.text_encoder.config.hidden_size
    ids = torch.randint(
        model.text_encoder.config.vocab_size, (size.batch, size.text), generator=draw
    )
    return [
        _graph(
            "qwen3_embedding_0p6",
            TextEncoder(model.text_encoder),
            {"input_ids": (ids, "B T"), "attention_mask": (torch.ones_like(ids), "B T")},
            {"last_hidden_state": f"B T {width}"},
        ),
        _graph(
            "qwen3_token_embedding_0p6",
            TokenEmbedding(model.text_encoder),
            {"input_ids": (ids, "B T")},
            {"token_embeddings": f"B T {width}"},
        ),
    ]


def _normal(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=draw)


def _code_numbers(draw: torch.Generator, size: Lengths) -> Tensor:
    return torch.randint(AUDIO_CODES, (size.batch, size.codes, 1), generator=draw)


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
    places = {key: dict(enumerate(axes.split())) for key, axes in named.items()}
    return Graph(
        name=name,
        module=module.eval(),
        inputs={key: tensor for key, (tensor, _) in inputs.items()},
        outputs=tuple(outputs),
        axes={
            key: {i: axis for i, axis in axes.items() if not (axis == "_" or axis.isdigit())}
            for key, axes in places.items()
        },
        fixed={
            key: {i: int(axis) for i, axis in axes.items() if axis.isdigit()}
            for key, axes in places.items()
        },
        free_phase=free_phase,
    )
