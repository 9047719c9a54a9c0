"""The fields of a request, in the four groups that they come in: each defined here, once.

A field says its meaning, unit, range, default and aliases; flags, forms and documents are made from
that. Aliases are the names that ACE-Step's own servers and clients use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from luthier.music.request_lora import MOST_ADAPTERS, Lora, lora_values
from luthier.music.request_values import (
    Regions,
    by_commas,
    codes_value,
    key_value,
    none_when_negative,
    regions_value,
    says,
    time_signature_value,
    track_names,
)
from luthier.music.templates import TASKS, Task

MAX_SEED = 2**32 - 1
_LONGEST_S = 600


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Words(_Part):
    """What it should sound like."""

    prompt: str = says("what it should sound like", "caption", max_length=4096, default="")
    lyrics: str = says("words to sing; empty is instrumental", max_length=32768, default="")
    instrumental: bool = says("no voice, whatever the lyrics say", default=False)
    vocal_language: str = says(
        "language of the lyrics, as a code",
        "vocalLanguage",
        "language",
        default="en",
        max_length=16,
    )
    bpm: int | None = says("tempo", unit="beats per minute", ge=30, le=300, default=None)
    key: Annotated[str | None, BeforeValidator(key_value)] = says(
        "key, e.g. 'A minor' or 'F# major'", "key_scale", "keyscale", "keyScale", default=None
    )
    time_signature: Annotated[str | None, BeforeValidator(time_signature_value)] = says(
        "beats in a bar: 2, 3, 4 or 6", "timesignature", "timeSignature", default=None
    )
    duration_s: float | None = says(
        "length of the result; the source's, the codes', or 30, when it is not said",
        *("duration", "audio_duration", "audioDuration", "target_duration", "targetDuration"),
        unit="seconds",
        flag="--duration",
        ge=1,
        le=_LONGEST_S,
        default=None,
    )
    instruction: str | None = says(
        "the instruction to the model, instead of the task's own", max_length=512, default=None
    )


class Sampling(_Part):
    """How noise becomes music."""

    seed: Annotated[int | None, BeforeValidator(none_when_negative)] = says(
        "same seed, same sound; random when it is not said", ge=0, le=MAX_SEED, default=None
    )
    seeds: Annotated[tuple[int, ...], BeforeValidator(by_commas)] = says(
        "a seed for each piece of a batch, by commas", max_length=8, default=()
    )
    batch_size: int = says(
        "how many to make, with seeds counting up",
        unit="pieces",
        flag="--batch",
        ge=1,
        le=8,
        default=1,
    )
    steps: int | None = says(
        "denoising steps", "inference_steps", "inferenceSteps", ge=1, le=200, default=None
    )
    shift: float | None = says("how much time is spent near noise", gt=0, le=10, default=None)
    timesteps: Annotated[tuple[float, ...] | None, BeforeValidator(by_commas)] = says(
        "own falling times in (0, 1] instead of steps and shift, by commas",
        max_length=200,
        default=None,
    )
    infer_method: Literal["ode", "sde"] = says(
        "ode (the same way each time) or sde (fresh noise in every step)",
        "inferMethod",
        default="ode",
    )
    sampler_mode: Literal["euler", "heun"] = says(
        "euler, or heun: two evaluations a step, of second order",
        "samplerMode",
        flag="--sampler",
        default="euler",
    )
    guidance_scale: float | None = says(
        "how closely to follow the prompt; 1 is no guidance",
        "guidanceScale",
        flag="--guidance",
        ge=1,
        le=30,
        default=None,
    )
    guidance_method: Literal["apg", "adg", "cfg"] | None = says(
        "apg (projected, ACE-Step's own), adg (by angle) or cfg (classifier-free)", default=None
    )
    cfg_interval_start: float = says(
        "guide from this time on up (1 is noise, 0 is music)", ge=0, le=1, default=0.0
    )
    cfg_interval_end: float = says("guide below this time only", ge=0, le=1, default=1.0)
    velocity_norm_threshold: float = says(
        "limit a step's velocity to so many times the norm of the latents; 0 is no limit",
        ge=0,
        le=5,
        default=0.0,
    )
    velocity_ema_factor: float = says(
        "how much of the step before a velocity keeps", ge=0, le=0.5, default=0.0
    )
    lora: Annotated[tuple[Lora, ...], BeforeValidator(lora_values)] = says(
        "an adapter to play with: its folder, or folder:scale with 1 as trained; may be several",
        "loras",
        max_length=MOST_ADAPTERS,
        default=(),
    )


class Sources(_Part):
    """What to do, and the recordings to do it with."""

    task: Task = says(
        "what to do: " + ", ".join(TASKS), "task_type", "taskType", default="text2music"
    )
    tracks: Annotated[tuple[str, ...], BeforeValidator(track_names)] = says(
        "the tracks a lego, extract or complete task is about, by commas",
        *("track_name", "trackName", "track_classes", "trackClasses", "instruments"),
        default=(),
    )
    source_audio: Path | None = says(
        "the recording to work on",
        *("src_audio_path", "ctx_audio_path", "sourceAudioPath", "srcAudioPath", "ctxAudioPath"),
        flag="--source",
        default=None,
    )
    reference_audio: Path | None = says(
        "a recording whose timbre to take",
        *("reference_audio_path", "ref_audio_path", "referenceAudioPath", "refAudioPath"),
        flag="--reference",
        default=None,
    )
    audio_codes: Annotated[tuple[int, ...], BeforeValidator(codes_value)] = says(
        "what to play, as audio codes: numbers by commas, or <|audio_code_N|> in a row",
        *("audio_code_string", "audioCodeString"),
        max_length=8 * _LONGEST_S,
        default=(),
    )
    cover_strength: float = says(
        "of a cover: the share of the steps that follow the source's codes",
        *("audio_cover_strength", "audioCoverStrength", "coverStrength"),
        ge=0,
        le=1,
        default=1.0,
    )
    cover_noise_strength: float = says(
        "of a cover: how near to the source itself it starts; 0 starts from noise",
        "coverNoiseStrength",
        ge=0,
        le=1,
        default=0.0,
    )
    repaint_start_s: float = says(
        "start of the window to make anew; below 0 adds that much before the source",
        *("repainting_start", "repaint_start"),
        unit="seconds",
        flag="--repaint-start",
        ge=-_LONGEST_S,
        le=_LONGEST_S,
        default=0.0,
    )
    repaint_end_s: Annotated[float | None, BeforeValidator(none_when_negative)] = says(
        "end of the window to make anew; beyond the source's end adds to it; the end when it is "
        "not said",
        *("repainting_end", "repaint_end"),
        unit="seconds",
        flag="--repaint-end",
        ge=0,
        le=_LONGEST_S,
        default=None,
    )
    repaint_regions: Annotated[Regions, BeforeValidator(regions_value)] = says(
        "several windows to make anew instead of one, as start:end by commas",
        unit="seconds",
        flag="--regions",
        max_length=32,
        default=(),
    )
    repaint_mode: Literal["conservative", "balanced", "aggressive"] = says(
        "how much of the source guides a repaint: conservative, balanced or aggressive",
        "repaintMode",
        default="balanced",
    )
    repaint_strength: float = says(
        "of the balanced mode: 0 keeps close to the source, 1 is free",
        "repaintStrength",
        ge=0,
        le=1,
        default=0.5,
    )
    repaint_crossfade_frames: int | None = says(
        "latent frames outside a window that blend into it; the mode's own when not said",
        *("repaint_latent_crossfade_frames", "repaintLatentCrossfadeFrames"),
        ge=0,
        le=250,
        default=None,
    )
    repaint_crossfade_s: float = says(
        "cross-fade between source and repaint, just outside a window; 0 is a hard cut",
        *("repaint_wav_crossfade_sec", "repaintWavCrossfadeSec"),
        unit="seconds",
        flag="--repaint-crossfade",
        ge=0,
        le=20,
        default=0.01,
    )


class Finish(_Part):
    """What happens to the sound at the end."""

    latent_shift: float = says(
        "added to the latents before they are decoded", ge=-10, le=10, default=0.0
    )
    latent_rescale: float = says(
        "multiplies the latents before they are decoded", gt=0, le=10, default=1.0
    )
    normalization_db: float = says(
        "the peak of the result, below full scale",
        "normalizationDb",
        unit="dB",
        flag="--peak",
        ge=-24,
        le=0,
        default=-1.0,
    )
    fade_in_s: float = says(
        "fade in at the start",
        *("fade_in_duration", "fadeInDuration"),
        unit="seconds",
        flag="--fade-in",
        ge=0,
        le=60,
        default=0.0,
    )
    fade_out_s: float = says(
        "fade out at the end",
        *("fade_out_duration", "fadeOutDuration"),
        unit="seconds",
        flag="--fade-out",
        ge=0,
        le=60,
        default=0.0,
    )
