"""A real music model in miniature: random weights, every component, milliseconds a step."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch
from diffusers import AceStepTransformer1DModel
from diffusers.pipelines.ace_step import modeling_ace_step as ace
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

from luthier.music import templates
from luthier.music.spec import ModelSpec
from luthier.music.torch.autoencoder import MiniAutoencoder
from luthier.music.torch.model import MusicModel, save_model

_SESSION = tempfile.TemporaryDirectory(prefix="luthier-tiny-")
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 8,
}

SPEC = ModelSpec(
    name="tiny",
    sample_rate=8000,
    hop_length=160,
    latent_channels=8,
    patch_size=2,
    pool_window=10,
    timbre_frames=20,
    min_frames=20,
    max_frames=3000,
    default_steps=4,
    default_shift=1.0,
    default_guidance=2.0,
    tasks=templates.TASKS,
)


def tiny_tokenizer() -> Tokenizer:
    """A byte-level BPE of a few hundred tokens, learned from the templates."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    metas = templates.metas_text(bpm=84, key="A minor", time_signature="4", duration_s=10)
    words = [
        templates.prompt_text("calm piano", metas, instruction=templates.instruction_for(task))
        for task in templates.TASKS
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        show_progress=False,
        special_tokens=[AddedToken("<|endoftext|>", special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([*words, templates.lyrics_text("")], trainer)
    return tokenizer


def tiny_model(seed: int = 0, spec: ModelSpec = SPEC) -> MusicModel:
    """The model itself; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(spec)


def text_config(tokenizer: Tokenizer, width: int) -> Qwen3Config:
    """Of a text encoder of two layers."""
    return Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
        max_position_embeddings=4096,
    )


def _build(spec: ModelSpec) -> MusicModel:
    channels = spec.latent_channels
    tokenizer = tiny_tokenizer()
    text_width = 24
    text = text_config(tokenizer, text_width)
    pooling = {"pool_window_size": spec.pool_window, "audio_acoustic_hidden_dim": channels}
    encoder = ace.AceStepConditionEncoder(
        **_SHAPE,
        text_hidden_dim=text_width,
        timbre_hidden_dim=channels,
        num_lyric_encoder_hidden_layers=2,
        num_timbre_encoder_hidden_layers=2,
    )
    vae = MiniAutoencoder(
        sample_rate=spec.sample_rate,
        hop_length=spec.hop_length,
        latent_channels=channels,
        width=16,
        depth=2,
        phase_iterations=2,
    )
    vae.fit_projection(torch.rand(4 * channels, 2 * vae.spectrum.bins))
    torch.nn.init.normal_(vae.proj_out.weight, std=0.02)
    model = MusicModel(
        spec=spec,
        transformer=AceStepTransformer1DModel(
            **_SHAPE,
            num_hidden_layers=2,
            in_channels=3 * channels,
            audio_acoustic_hidden_dim=channels,
            patch_size=spec.patch_size,
        ),
        condition_encoder=encoder,
        audio_tokenizer=ace.AceStepAudioTokenizer(**_SHAPE, **pooling, fsq_dim=32),
        audio_detokenizer=ace.AceStepAudioTokenDetokenizer(**_SHAPE, **pooling),
        text_encoder=Qwen3Model(text),
        tokenizer=tokenizer,
        vae=vae,
    )
    with torch.no_grad():
        quiet = vae.encode(torch.zeros(1, 2, 9 * spec.hop_length)).transpose(1, 2)[:, 4:5]
        encoder.silence_latent.copy_(quiet.expand_as(encoder.silence_latent))
    for part in (model.transformer, encoder, model.audio_tokenizer, model.audio_detokenizer):
        part.eval()
    model.text_encoder.eval()
    vae.eval()
    return model


def make_tiny_model(folder: Path, seed: int = 0, spec: ModelSpec = SPEC) -> Path:
    """Save a tiny model as a model folder."""
    save_model(tiny_model(seed, spec), folder)
    return folder


def denoiser_inputs(batch: int = 2, frames: int = 24, tokens: int = 7) -> dict[str, Tensor]:
    """Random inputs of the tiny denoiser without padding, by the names of `denoise`, in order."""
    draw = torch.Generator().manual_seed(0)
    times, channels = torch.tensor([0.3, 0.8])[:batch], SPEC.latent_channels
    return {
        "noisy": torch.randn(batch, frames, channels, generator=draw),
        "timestep": times,
        "timestep_r": times,
        "latent_mask": torch.ones(batch, frames),
        "encoder_states": torch.randn(batch, tokens, _SHAPE["hidden_size"], generator=draw),
        "encoder_mask": torch.ones(batch, tokens),
        "context": torch.randn(batch, frames, 2 * channels, generator=draw),
    }


@torch.no_grad()
def diffusers_velocity(model: MusicModel, given: dict[str, Tensor]) -> Tensor:
    """What diffusers' own forward pass makes of `denoiser_inputs`."""
    velocity: Tensor = model.transformer(
        hidden_states=given["noisy"],
        timestep=given["timestep"],
        timestep_r=given["timestep_r"],
        encoder_hidden_states=given["encoder_states"],
        context_latents=given["context"],
        return_dict=False,
    )[0]
    return velocity


def tiny_onnx(precision: str = "fp32") -> Path:
    """The tiny model as exported graphs; made once a session, read only."""
    return _exported(precision)


@functools.cache
def _exported(precision: str) -> Path:
    from luthier.music.export.export import export_model

    folder = Path(_SESSION.name)
    if not (folder / "torch").is_dir():
        make_tiny_model(folder / "torch")
    return export_model(folder / "torch", folder / precision, precision=precision).folder


def tiny_torch() -> Path:
    """The torch folder that `tiny_onnx` was exported from; read only."""
    return tiny_onnx().parent / "torch"
