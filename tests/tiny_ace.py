"""ACE-Step 1.5 in miniature: one set of random weights in both layouts that it is published in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AceStepPipeline, AceStepTransformer1DModel, AutoencoderOobleck
from diffusers.pipelines.ace_step import modeling_ace_step as ace
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast, Qwen3Model

from luthier.files import make_folder, write_json
from luthier.music.torch.original_layout import original_name
from tiny import text_config, tiny_tokenizer

CHANNELS, TEXT = 8, 24
_ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_WIDE = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 6}
_SAME = {"head_dim": 8, "sliding_window": 8}


def parts(*, turbo: bool, xl: bool = False, seed: int = 0) -> dict[str, Any]:
    """The components, with random weights; XL has a denoiser wider than its encoders."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = tiny_tokenizer()
        decoder = _ENCODER | (_WIDE if xl else {})
        pooling = {"pool_window_size": 5, "audio_acoustic_hidden_dim": CHANNELS}
        made: dict[str, Any] = {
            "transformer": AceStepTransformer1DModel(
                **decoder,
                **_SAME,
                num_hidden_layers=2,
                in_channels=3 * CHANNELS,
                audio_acoustic_hidden_dim=CHANNELS,
                encoder_hidden_size=_ENCODER["hidden_size"],
                is_turbo=turbo,
                model_version="turbo" if turbo else "base",
            ),
            "condition_encoder": ace.AceStepConditionEncoder(
                **_ENCODER,
                **_SAME,
                text_hidden_dim=TEXT,
                timbre_hidden_dim=CHANNELS,
                num_lyric_encoder_hidden_layers=2,
                num_timbre_encoder_hidden_layers=1,
            ),
            "audio_tokenizer": ace.AceStepAudioTokenizer(
                **_ENCODER, **_SAME, **pooling, fsq_dim=32
            ),
            "audio_token_detokenizer": ace.AceStepAudioTokenDetokenizer(
                **_ENCODER, **_SAME, **pooling
            ),
            "text_encoder": Qwen3Model(text_config(tokenizer, TEXT)),
            "vae": AutoencoderOobleck(
                encoder_hidden_size=2 * CHANNELS,
                downsampling_ratios=[2, 4, 4, 4],
                channel_multiples=[1, 1, 2, 2],
                decoder_channels=8,
                decoder_input_channels=CHANNELS,
                sampling_rate=6400,
            ),
            "tokenizer": PreTrainedTokenizerFast(
                tokenizer_object=tokenizer, pad_token="<|endoftext|>"
            ),
            "scheduler": FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
        }
        made["condition_encoder"].silence_latent.normal_(std=0.1)
    for name in ("transformer", "condition_encoder", "audio_tokenizer", "vae"):
        made[name].eval()
    return made


def write_diffusers(folder: Path, made: dict[str, Any]) -> Path:
    """As diffusers saves a pipeline."""
    AceStepPipeline(**made).save_pretrained(folder)
    return folder


def write_original(folder: Path, made: dict[str, Any]) -> Path:
    """As the authors publish it; returns the folder of the denoiser's checkpoint."""
    turbo = bool(made["transformer"].config.is_turbo)
    model = make_folder(folder / ("acestep-v15-turbo" if turbo else "acestep-v15-base"))
    names = {
        "transformer": "transformer",
        "condition_encoder": "condition_encoder",
        "audio_tokenizer": "audio_tokenizer",
        "audio_token_detokenizer": "audio_detokenizer",
    }
    tensors = {
        original_name(component, key): value.contiguous()
        for name, component in names.items()
        for key, value in made[name].state_dict().items()
        if key != "silence_latent"
    }
    halves = [dict(list(tensors.items())[i::2]) for i in range(2)]
    for number, half in enumerate(halves, start=1):
        save_file(half, model / f"model-0000{number}-of-00002.safetensors")
    silence = made["condition_encoder"].silence_latent
    torch.save(silence.transpose(1, 2).contiguous(), model / "silence_latent.pt")
    write_json(model / "config.json", _original_config(made))
    (model / "modeling_acestep_v15.py").write_text("raise RuntimeError('remote code was run')\n")
    made["vae"].save_pretrained(folder / "vae")
    made["text_encoder"].save_pretrained(folder / "Qwen3-Embedding-0.6B")
    made["tokenizer"].save_pretrained(folder / "Qwen3-Embedding-0.6B")
    return model


def _original_config(made: dict[str, Any]) -> dict[str, Any]:
    decoder, encoder = made["transformer"].config, made["condition_encoder"].config
    audio = made["audio_tokenizer"].config
    config = {name: value for name, value in decoder.items() if not name.startswith("_")}
    config |= {f"encoder_{name}": encoder[name] for name in _ENCODER}
    for name in ("text_hidden_dim", "timbre_hidden_dim", "num_lyric_encoder_hidden_layers"):
        config[name] = encoder[name]
    config["num_timbre_encoder_hidden_layers"] = encoder["num_timbre_encoder_hidden_layers"]
    for name in ("pool_window_size", "fsq_dim", "fsq_input_levels", "fsq_input_num_quantizers"):
        config[name] = audio[name]
    config["num_attention_pooler_hidden_layers"] = audio["num_attention_pooler_hidden_layers"]
    return config | {
        "auto_map": {"AutoModel": "modeling_acestep_v15.AceStepConditionGenerationModel"},
        "timbre_fix_frame": 40,
        "timestep_mu": -0.4,
        "timestep_sigma": 1.0,
    }
