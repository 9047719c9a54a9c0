"""The processes of the paired training measurement: make the material, two trainers, a judge.

    python benchmarks/training_peer.py make FOLDER
    python benchmarks/training_peer.py luthier|cached|plain FOLDER OUT STEPS
    python benchmarks/training_peer.py judge FOLDER ADAPTER…

Each prints a JSON object. The model has all components of ACE-Step 1.5 turbo in about its
proportions, random weights and a fiftieth of its size. The peer is a loop of diffusers and peft: it
loads the pipeline, wraps the denoiser, and encodes audio and prompts: "cached" once before its
steps, and lets go of the encoders then, as the trainers do that people use; "plain" in every step.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

TRACKS, SECONDS, RATE = 12, 6.0, 48000
BATCH, RANK, ALPHA, LEARNING_RATE, CLIP = 2, 16, 8.0, 4e-4, 1.0
WARM_STEPS = 2  # not counted: the first steps fill caches and pools
SHAPE = {"hidden_size": 768, "intermediate_size": 2304, "num_attention_heads": 12}
SHAPE |= {"num_key_value_heads": 6, "head_dim": 64}
CHANNELS, TEXT = 32, 512


def make(folder: Path) -> dict[str, Any]:
    """The model in diffusers' layout, and a data set of chords with prompts."""
    import torch
    from diffusers import AceStepPipeline, AceStepTransformer1DModel, AutoencoderOobleck
    from diffusers.pipelines.ace_step import modeling_ace_step as ace
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

    torch.manual_seed(0)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    end = AddedToken("<|endoftext|>", special=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=[end], initial_alphabet=alphabet)
    bpe.train_from_iterator(["calm piano"], trainer)
    pooling = {"pool_window_size": 5, "audio_acoustic_hidden_dim": CHANNELS}
    text = Qwen3Config(
        vocab_size=30000,
        hidden_size=TEXT,
        intermediate_size=3 * TEXT,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=4096,
    )
    parts = {
        "transformer": AceStepTransformer1DModel(
            **SHAPE,
            num_hidden_layers=12,
            in_channels=3 * CHANNELS,
            audio_acoustic_hidden_dim=CHANNELS,
            is_turbo=True,
            model_version="turbo",
        ),
        "condition_encoder": ace.AceStepConditionEncoder(
            **SHAPE,
            text_hidden_dim=TEXT,
            timbre_hidden_dim=CHANNELS,
            num_lyric_encoder_hidden_layers=4,
            num_timbre_encoder_hidden_layers=2,
        ),
        "audio_tokenizer": ace.AceStepAudioTokenizer(**SHAPE, **pooling, fsq_dim=768),
        "audio_token_detokenizer": ace.AceStepAudioTokenDetokenizer(**SHAPE, **pooling),
        "text_encoder": Qwen3Model(text),
        "vae": AutoencoderOobleck(
            encoder_hidden_size=2 * CHANNELS,
            downsampling_ratios=[2, 4, 4, 6, 10],
            channel_multiples=[1, 1, 2, 4, 4],
            decoder_channels=32,
            decoder_input_channels=CHANNELS,
            sampling_rate=RATE,
        ),
        "tokenizer": PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<|endoftext|>"),
        "scheduler": FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    }
    parts["condition_encoder"].silence_latent.normal_(std=0.1)
    AceStepPipeline(**parts).save_pretrained(folder / "model")
    _make_tracks(folder)
    return {"parameters": {n: _count(p) for n, p in parts.items() if hasattr(p, "parameters")}}


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _make_tracks(folder: Path) -> None:
    import numpy as np

    from luthier.audio.encode import write_audio
    from luthier.files import write_json, write_text
    from luthier.music.dataset.build import BuildSettings, build_dataset

    tracks = folder / "tracks"
    time_s = np.arange(int(SECONDS * RATE)) / RATE
    names = [f"track{i:02d}" for i in range(TRACKS)]
    for index, name in enumerate(names):
        chord = sum(np.sin(2 * np.pi * 110 * 2 ** ((index + k) / 12) * time_s) for k in (0, 4, 7))
        tone = 0.1 * chord * (1 + np.sin(4 * np.pi * time_s)) / 2
        write_audio(tracks / f"{name}.wav", np.stack([tone, tone]).astype(np.float32), RATE)
        write_text(tracks / f"{name}_prompt.txt", f"lofi, calm piano, {name}")
        write_text(tracks / f"{name}_lyrics.txt", "[Instrumental]")
        facts = {"bpm": 120.0, "keyscale": "A minor", "timesignature": "4", "duration": SECONDS}
        other = {"style_ids": ["CORE-01"], "language": "en", "instrumental": True}
        write_json(tracks / f"{name}.json", facts | other)
    source: dict[str, Any] = {"source_id": "own", "track_ids": names, "provider": "benchmark"}
    source |= {"source_type": "commissioned", "license_type": "CC0-1.0", "cost": 0}
    source |= {"date_acquired": "2025-01-01", "ai_training_allowed": True}
    write_json(tracks / "sources.json", [source])
    build_dataset(tracks, tracks, folder / "set", BuildSettings(validation_split=0.25))


def _config(steps: int) -> Any:
    from luthier.training.config import config_from

    values: dict[str, Any] = {"rank": RANK, "alpha": ALPHA, "batch_size": BATCH, "crop_s": SECONDS}
    values |= {"learning_rate": LEARNING_RATE, "schedule": "constant", "warm_up": 0}
    values |= {"gradient_clip": CLIP, "max_steps": steps, "save_every": steps, "samples": 0}
    return config_from(values | {"tensorboard": False, "precision": "float32"})


def luthier(folder: Path, out: Path, steps: int) -> dict[str, Any]:
    """`train` from nothing: encoding, steps, checkpoint, validation."""
    from luthier.training.metrics import read_metrics
    from luthier.training.run import train

    started = time.perf_counter()
    # Nothing of an earlier round is used: features are encoded again, as on the other sides.
    cache = out.with_name(f"{out.name}-cache")
    result = train(folder / "model", folder / "set", out, _config(steps), cache_dir=cache)
    whole = time.perf_counter() - started
    shutil.copytree(result.checkpoint, out / "adapter")
    seconds = [row["seconds"] for row in read_metrics(result.metrics)][WARM_STEPS:]
    return _told(seconds, whole, steps)


def cached(folder: Path, out: Path, steps: int) -> dict[str, Any]:
    """The loop of diffusers and peft with features that are encoded once: the strong peer."""
    return _peer(folder, out, steps, caches=True)


def plain(folder: Path, out: Path, steps: int) -> dict[str, Any]:
    """The loop as first drafts have it: audio and prompts are encoded in every step."""
    return _peer(folder, out, steps, caches=False)


def _features(pipeline: Any, rows: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Latents (B, T, C) and condition states (B, L, D) of tracks."""
    import numpy as np
    import torch

    from luthier.audio.decode import read_audio

    audio = np.stack([read_audio(Path(row["filename"]))[0] for row in rows])
    timbre = pipeline.condition_encoder.silence_latent[:, :750].expand(len(rows), -1, -1)
    with torch.no_grad():
        latents = pipeline.vae.encode(torch.from_numpy(audio)).latent_dist.mode()
        text, text_mask, lyrics, lyrics_mask = pipeline.encode_prompt(
            [row["caption"] for row in rows],
            ["[Instrumental]"] * len(rows),
            torch.device("cpu"),
            audio_duration=SECONDS,
            bpm=120,
            keyscale="A minor",
            timesignature="4",
        )
        states, _ = pipeline.condition_encoder(
            text_hidden_states=text,
            text_attention_mask=text_mask,
            lyric_hidden_states=lyrics,
            lyric_attention_mask=lyrics_mask,
            refer_audio_acoustic_hidden_states_packed=timbre,
            refer_audio_order_mask=torch.arange(len(rows)),
        )
    return latents.transpose(1, 2), states


def _peer(folder: Path, out: Path, steps: int, *, caches: bool) -> dict[str, Any]:
    started = time.perf_counter()
    import numpy as np
    import torch
    from diffusers import AceStepPipeline
    from peft import LoraConfig, get_peft_model

    from luthier.music.dataset.build import load_rows
    from luthier.music.playing.schedule import step_times

    torch.manual_seed(0)
    pipeline = AceStepPipeline.from_pretrained(folder / "model")
    for name in ("vae", "text_encoder", "condition_encoder"):
        getattr(pipeline, name).requires_grad_(False)
    rows = load_rows(folder / "set", "train")
    whole_silence = pipeline.condition_encoder.silence_latent
    kept: list[tuple[Any, Any]] = []
    if caches:
        kept = [_features(pipeline, [row]) for row in rows]
        for name in ("vae", "text_encoder", "condition_encoder", "audio_tokenizer"):
            setattr(pipeline, name, None)
        pipeline.audio_token_detokenizer = None
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, use_rslora=True, target_modules=targets)
    model = get_peft_model(pipeline.transformer, lora)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.01)
    times = torch.from_numpy(step_times(8, 3.0, is_turbo=True)).float()
    order: list[int] = []
    seconds = []
    for _ in range(steps):
        begun = time.perf_counter()
        while len(order) < BATCH:
            order += np.random.permutation(len(rows)).tolist()
        batch, order = order[:BATCH], order[BATCH:]
        if caches:  # captions are equally long here, so that nothing has to be padded
            latents, states = (torch.cat([kept[i][k] for i in batch]) for k in (0, 1))
        else:
            latents, states = _features(pipeline, [rows[i] for i in batch])
        silence = whole_silence[:, : latents.shape[1]].expand(BATCH, -1, -1)
        context = torch.cat([silence, torch.ones_like(silence)], dim=-1)
        t = times[torch.randint(len(times), (BATCH,))]
        noise = torch.randn_like(latents)
        noisy = t[:, None, None] * noise + (1 - t[:, None, None]) * latents
        velocity = model(
            hidden_states=noisy,
            timestep=t,
            timestep_r=t,
            encoder_hidden_states=states,
            context_latents=context,
        ).sample
        loss = torch.nn.functional.mse_loss(velocity, noise - latents)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begun)
    whole = time.perf_counter() - started
    model.save_pretrained(out / "adapter")
    return _told(seconds[WARM_STEPS:], whole, steps)


def _told(seconds: list[float], whole: float, steps: int) -> dict[str, Any]:
    return {
        "samples_per_s": round(BATCH * len(seconds) / sum(seconds), 4),
        "samples_per_s_whole_run": round(BATCH * steps / whole, 4),
        "seconds": round(whole, 2),
    }


def judge(folder: Path, *adapters: Path) -> dict[str, Any]:
    """The loss of the base and of each adapter, on all tracks at fixed times with fixed noise."""
    import torch

    from luthier.music.torch.model_folder import open_model
    from luthier.music.training.batches import Constants, validation_examples
    from luthier.music.training.feature_cache import cache_features, load_features
    from luthier.music.training.feature_encoder import Encoder
    from luthier.music.training.objective import flow_loss
    from luthier.training.weights_io import load_trained

    model, config = open_model(folder / "model"), _config(1)
    encoder = Encoder(model, torch.device("cpu"))
    cache = folder / "judged"
    index = cache_features(folder / "set", "train", encoder, cache, crop_s=SECONDS)
    conditioner = model.part("condition_encoder")
    constants = Constants(model.spec, conditioner.silence_latent, conditioner.null_condition_emb)
    examples = validation_examples(load_features(index), constants, config)
    losses = []
    for adapter in (None, *adapters):
        transformer = model.part("transformer")
        if adapter:
            load_trained(transformer, adapter)
        transformer.eval()
        with torch.no_grad():
            found = [flow_loss(transformer, e.batch, e.times, e.noise).item() for e in examples]
        losses.append(round(sum(found) / len(found), 4))
    return {"losses": losses}


def main() -> None:
    """Run one stage."""
    stage, folder, *rest = sys.argv[1:]
    if stage == "make":
        told = make(Path(folder))
    elif stage == "judge":
        told = judge(Path(folder), *map(Path, rest))
    else:
        trainer = {"luthier": luthier, "cached": cached, "plain": plain}[stage]
        told = trainer(Path(folder), Path(rest[0]), int(rest[1]))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
