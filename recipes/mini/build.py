"""mini before training: its sizes, its random weights, its tokenizer. One place says how big mini
is.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.ace_step_transformer import AceStepTransformer1DModel
from diffusers.pipelines.ace_step.modeling_ace_step import (
    AceStepAudioTokenDetokenizer,
    AceStepAudioTokenizer,
    AceStepConditionEncoder,
)
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen3Config, Qwen3Model

from luthier.music.dataset.styles import load_presets
from luthier.music.spec import ModelSpec
from luthier.music.templates import (
    TASKS,
    TRACK_NAMES,
    instruction_for,
    lyrics_text,
    metas_text,
    prompt_text,
)
from luthier.music.torch.autoencoder import autoencoder_from
from luthier.music.torch.model import MusicModel

VOCABULARY = 2048
WIDTH, HEADS, KV_HEADS, HEAD_DIM = 256, 4, 2, 64
TEXT_WIDTH = 192
CODE_WIDTH = 128
MAX_S = 120
_CODE_LEVEL = 4.0  # well above the noise that the first layer sees beside it

SPEC = ModelSpec(
    name="mini",
    sample_rate=24_000,
    hop_length=480,
    latent_channels=64,
    patch_size=2,
    pool_window=10,
    timbre_frames=300,
    min_frames=100,
    max_frames=50 * MAX_S,
    is_turbo=False,
    default_steps=24,
    default_shift=2.0,
    # Neighbouring frames of mini's latents say much the same, so that noise hides little: tempo and
    # key are settled near t = 1, and most of the training happens there.
    timestep_mean=0.8,
    timestep_deviation=1.2,
    # Plain guidance keeps tempo better: 17 of 24, against 11 with projected guidance at 3.
    default_guidance=4.0,
    # A source says more than words do: guided by 4, a layer leaves the key of its song.
    track_guidance=1.5,
    guidance_method="cfg",
    tasks=("text2music", "cover", "repaint", "lego", "extract", "complete"),
)


def train_tokenizer(labels: list[dict[str, Any]], extra: list[str]) -> Tokenizer:
    """A small byte-level BPE over the prompts that mini will see. Numbers stay whole: a tempo is
    one token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r" ?[A-Za-z]+[#b]?(?![a-z])| ?[A-Za-z]+| ?\d+|\s+|[^\sA-Za-z\d]+"), "isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    rng = random.Random(0)
    texts = list(extra)
    for row in labels:
        texts += [prompt_for(row, caption, 8.0, rng) for caption in row["captions"]]
    numbers = [f"- bpm: {n}\n" for n in range(30, 301)] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts + numbers + [lyrics_text("")] * 100, trainer)
    return tokenizer


def style_texts() -> list[str]:
    """The words of the style presets and the instructions, so that the tokenizer knows them."""
    texts = [instruction_for(task, (track,)) for task in TASKS for track in TRACK_NAMES] * 5
    for preset in load_presets().values():
        words = [*preset.base_tags, *preset.instruments, *preset.production, *preset.mood_options]
        texts += [", ".join(words)] * 5
    return texts


def prompt_for(
    row: dict[str, Any],
    caption: str,
    duration_s: float,
    rng: random.Random,
    task: str = "text2music",
    tracks: tuple[str, ...] = (),
    *,
    told: bool = True,
) -> str:
    """The text prompt of a labelled clip; each fact is left out now and then, as users do, and all
    of them when nothing is `told`.
    """
    bpm = row["bpm"] if rng.random() > 0.08 else None
    metre = str(row["timesignature"]) if rng.random() > 0.1 else None
    key = row["keyscale"] if rng.random() > 0.08 else None
    facts = {"bpm": bpm, "time_signature": metre, "key": key} if told else {}
    return prompt_text(
        caption,
        metas_text(**facts, duration_s=duration_s),
        instruction=instruction_for(task, tracks),
    )


def build_model(tokenizer: Tokenizer, codec: Path, seed: int = 0) -> MusicModel:
    """mini with random weights around a fitted autoencoder."""
    torch.manual_seed(seed)
    attention = {
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
    }
    latent = SPEC.latent_channels
    codes = {
        "hidden_size": CODE_WIDTH, "intermediate_size": 256, "audio_acoustic_hidden_dim": latent,
        "pool_window_size": SPEC.pool_window, "num_attention_pooler_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64,
    }  # fmt: skip
    vae = autoencoder_from(codec)
    model = MusicModel(
        spec=SPEC,
        transformer=AceStepTransformer1DModel(
            hidden_size=WIDTH, intermediate_size=512, num_hidden_layers=6, in_channels=3 * latent,
            audio_acoustic_hidden_dim=latent, patch_size=SPEC.patch_size, is_turbo=False,
            model_version="base", rope_theta=10_000.0, **attention,
        ),
        condition_encoder=AceStepConditionEncoder(
            hidden_size=WIDTH, intermediate_size=512, text_hidden_dim=TEXT_WIDTH,
            timbre_hidden_dim=latent, num_lyric_encoder_hidden_layers=1,
            num_timbre_encoder_hidden_layers=1, **attention,
        ),
        audio_tokenizer=AceStepAudioTokenizer(
            fsq_dim=CODE_WIDTH, fsq_input_levels=[8, 8, 8, 5, 5, 5], **codes
        ),
        audio_detokenizer=AceStepAudioTokenDetokenizer(**codes),
        text_encoder=Qwen3Model(
            Qwen3Config(
                vocab_size=VOCABULARY, hidden_size=TEXT_WIDTH, intermediate_size=384,
                num_hidden_layers=2, max_position_embeddings=4096, **attention,
            )
        ),
        tokenizer=tokenizer,
        vae=vae,
    )  # fmt: skip
    _initialise(model)
    with torch.no_grad():
        frames = model.silence.shape[1]
        quiet = torch.zeros(1, 2, 200 * SPEC.hop_length)
        settled = vae.encode(quiet).transpose(1, 2)
        # Silence is the same in every frame once the edges are passed, so one middle frame stands
        # for all.
        code = time_code(frames, latent, SPEC.frames_per_second)
        model.silence.copy_(settled[:, 100:101] + code)
    return model


def code_rates(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The rates of the time code, Hz: half of them for beats, half for bars."""
    return torch.linspace(1.0, 140 / 60, count // 2), torch.linspace(0.25, 140 / 180, count // 2)


def time_code(frames: int, channels: int, frames_per_second: float) -> torch.Tensor:
    """What makes one frame of silence differ from the next: slow waves, (frames, channels).

    Rotary attention knows distances only. In pure noise over a constant source nothing says how
    far a frame is from the start, so no tempo can be settled there. The waves run at the rates of
    beats and of bars at 60 to 140 beats a minute, sine and cosine each.
    """
    hertz = torch.cat(code_rates(channels // 2))
    phase = 2 * math.pi * hertz * torch.arange(frames)[:, None] / frames_per_second
    return _CODE_LEVEL * torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)


def _initialise(model: MusicModel) -> None:
    """Small embeddings and zero output layers: training starts from "predict nothing", which is
    stable.
    """
    with torch.no_grad():
        torch.nn.init.normal_(model.text_encoder.get_input_embeddings().weight, std=0.1)
        transformer = model.transformer
        transformer.proj_out_conv.weight.mul_(0.1)
        torch.nn.init.zeros_(transformer.proj_out_conv.bias)
        for time in (transformer.time_embed, transformer.time_embed_r):
            torch.nn.init.zeros_(time.time_proj.weight)
            torch.nn.init.zeros_(time.time_proj.bias)
        for layer in transformer.layers:
            layer.scale_shift_table.zero_()
            # Gates start half open: a block must pass gradients from the first step.
            layer.scale_shift_table[:, 2] = layer.scale_shift_table[:, 5] = 0.5
        model.condition_encoder.null_condition_emb.normal_(std=0.1)
