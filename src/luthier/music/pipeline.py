"""A request → music, on ONNX Runtime: prompts, conditions, noise, denoising, decoding. No torch.

The noise is numpy's own (`default_rng(seed)`, PCG64): the same seed gives the same bytes on one
machine, and another piece than the same seed in a torch pipeline.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import read_audio
from luthier.errors import ModelError
from luthier.music import conditioning, templates
from luthier.music.mini import onnx_folder
from luthier.music.request import MAX_SEED, TASKS_WITH_SOURCE, MusicRequest, resolve
from luthier.music.sampler import Blend, Conditions, Plan, sample
from luthier.music.schedule import step_times
from luthier.music.spec import ModelSpec, load_spec
from luthier.progress import SILENT, Display
from luthier.runtime.session import Graphs
from luthier.runtime.text import load_tokenizer, token_ids
from luthier.runtime.tiles import decode_tiled

Array = NDArray[np.float32]

PEAK = 10 ** (-1 / 20)  # -1 dBFS: room for what lossy encoders overshoot
_SILENT = 1e-5


@dataclass(frozen=True)
class Generated:
    """One piece of music and how it came about."""

    audio: Array = field(repr=False)  # (2, n), peak at -1 dBFS
    sample_rate: int
    latents: Array = field(repr=False)  # [1, T, C]
    seed: int
    request: MusicRequest  # with everything resolved
    timings_s: dict[str, float]  # per stage, seconds


class _Timer:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        spent = self.seconds.get(name, 0.0) + time.perf_counter() - started
        self.seconds[name] = round(spent, 4)


class MusicPipeline:
    """Generates with one exported model.

    Args:
        folder: exported graphs; the built-in model when not given.
        threads: of ONNX Runtime; all cores when not given.

    Raises:
        ModelError: the folder is missing, incomplete or damaged.
    """

    def __init__(self, folder: Path | None = None, threads: int | None = None) -> None:
        self.folder = folder or onnx_folder()
        self.graphs = Graphs(self.folder, threads)
        self.graphs.manifest.verified("luthier.json")
        self.spec: ModelSpec = load_spec(self.folder)
        self.tokenizer = load_tokenizer(self.graphs.manifest.verified("tokenizer.json"))
        silence = self.graphs.array("silence_latent.npy")
        if silence.shape[1] == 1:
            silence = np.repeat(silence, self.spec.max_frames, axis=1)
        self.silence_latent = silence
        self.null_condition = self.graphs.array("null_condition_emb.npy")

    def generate(self, request: MusicRequest, display: Display = SILENT) -> Generated:
        """Make one piece (`batch_size` is for `generate_batch`).

        Raises:
            RequestError: the model cannot do what is asked for.
            ModelError: the graphs are damaged, or what they made is not a number or silent.
        """
        timer = _Timer()
        with timer.stage("source"):
            source = self._read(request.source_audio) if request.task in TASKS_WITH_SOURCE else None
            seconds = source.shape[1] / self.spec.sample_rate if source is not None else None
            request = resolve(request, self.spec, seconds)
            source_latents = self._encode(source) if source is not None else None
        extent = conditioning.extent_of(self.spec, request.duration_s or 0.0)
        seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        request = request.model_copy(update={"seed": seed})
        with timer.stage("conditions"):
            plan = self._plan(request, extent.frames, source_latents)
        with timer.stage("denoise"):
            latents = sample(self.graphs, plan, display)
        with timer.stage("decode"):
            audio = self._decode(latents)[:, : extent.samples]
        return Generated(
            audio=_finished(audio),
            sample_rate=self.spec.sample_rate,
            latents=latents,
            seed=seed,
            request=request,
            timings_s=timer.seconds,
        )

    def generate_batch(
        self, request: MusicRequest, display: Display = SILENT
    ) -> Iterator[Generated]:
        """Make `batch_size` pieces, one at a time; the seed counts up from the first one's."""
        first = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        for index in range(request.batch_size):
            seed = (first + index) % (MAX_SEED + 1)
            yield self.generate(request.model_copy(update={"seed": seed}), display)

    def _plan(self, request: MusicRequest, frames: int, source: Array | None) -> Plan:
        spec = self.spec
        quiet = conditioning.silence(self.silence_latent, frames)
        base = quiet
        if source is not None:
            base = conditioning.fit(source, self.silence_latent, frames)
        window = None
        if request.task in ("repaint", "lego"):
            window = conditioning.window_frames(
                spec, request.repaint_start_s, request.repaint_end_s, frames
            )
        mask = conditioning.chunk_mask(spec, frames, window)
        reference = self._reference(request)
        hints = self._hints(base) if request.task == "cover" else None
        src = np.where(mask > 0.5, quiet, base) if request.task == "repaint" else base
        first = self._conditions(request, request.task, src, mask, reference, hints)
        later = None
        if request.task == "cover" and request.cover_strength < 1:
            later = self._conditions(request, "text2music", quiet, mask, reference, None)
        steps = step_times(
            request.steps or spec.default_steps,
            request.shift or spec.default_shift,
            is_turbo=spec.is_turbo,
            custom=request.timesteps,
        )
        shape = (1, frames, spec.latent_channels)
        noise = np.random.default_rng(request.seed).standard_normal(shape, dtype=np.float32)
        return Plan(
            noise=noise,
            times=steps,
            conditions=first,
            later_conditions=later,
            later_from=int(len(steps) * request.cover_strength),
            null_condition=self.null_condition,
            request=request,
            blend=Blend(base, mask) if request.task == "repaint" else None,
        )

    def _conditions(
        self,
        request: MusicRequest,
        task: str,
        source: Array,
        mask: Array,
        reference: Array,
        hints: Array | None,
    ) -> Conditions:
        metas = templates.metas_text(
            bpm=request.bpm,
            time_signature=request.time_signature,
            key=request.key,
            duration_s=request.duration_s,
        )
        instruction = templates.instruction_for(task, request.tracks)
        prompt = templates.prompt_text(request.prompt, metas, instruction=instruction)
        lyrics = templates.lyrics_text(request.sung, request.vocal_language)
        text_ids = token_ids(self.tokenizer, prompt, self.spec.max_text_tokens)
        lyric_ids = token_ids(self.tokenizer, lyrics, self.spec.max_lyric_tokens)
        text = self.graphs.run(
            "qwen3_embedding_0p6", {"input_ids": text_ids, "attention_mask": np.ones_like(text_ids)}
        )["last_hidden_state"]
        lyric = self.graphs.run("qwen3_token_embedding_0p6", {"input_ids": lyric_ids})
        outputs = self.graphs.run(
            "condition_encoder",
            {
                "text_hidden_states": text,
                "text_attention_mask": np.ones(text_ids.shape, np.float32),
                "lyric_hidden_states": lyric["token_embeddings"],
                "lyric_attention_mask": np.ones(lyric_ids.shape, np.float32),
                "refer_audio_acoustic_hidden_states_packed": reference,
                "refer_audio_order_mask": np.zeros(1, np.int64),
                "hidden_states": source,
                "attention_mask": np.ones(source.shape[:2], np.float32),
                "silence_latent": conditioning.silence(self.silence_latent, source.shape[1]),
                "src_latents": source,
                "chunk_masks": mask,
                "is_covers": np.array([hints is not None]),
                "precomputed_lm_hints_25hz": source if hints is None else hints,
            },
        )
        return Conditions(
            encoder_hidden_states=outputs["encoder_hidden_states"],
            encoder_attention_mask=outputs["encoder_attention_mask"].astype(np.float32),
            context_latents=outputs["context_latents"],
        )

    def _hints(self, source: Array) -> Array:
        """Source latents as the audio codes say them: [1, T, C] → [1, T, C]."""
        frames = source.shape[1]
        pooled = -(-frames // self.spec.pool_window) * self.spec.pool_window
        padded = conditioning.fit(source, self.silence_latent, pooled)
        codes = self.graphs.run("audio_tokenizer", {"hidden_states": padded})
        hints: Array = self.graphs.run("audio_detokenizer", codes)["lm_hints_25hz"]
        return hints[:, :frames]

    def _reference(self, request: MusicRequest) -> Array:
        frames = self.spec.timbre_frames
        audio = self._read(request.reference_audio) if request.reference_audio else None
        if audio is None or np.max(np.abs(audio)) <= _SILENT:
            return conditioning.silence(self.silence_latent, frames)
        total_s = frames / self.spec.frames_per_second
        segments = conditioning.reference_segments(audio, self.spec.sample_rate, total_s)
        return conditioning.fit(self._encode(segments), self.silence_latent, frames)

    def _read(self, path: Path | None) -> Array:
        assert path is not None  # MusicRequest refuses a task with a source and none given
        audio, _ = read_audio(path, sample_rate=self.spec.sample_rate, channels=2)
        return np.clip(audio, -1.0, 1.0)

    def _encode(self, audio: Array) -> Array:
        """Audio (2, n) → latents [1, T, C]; the last frame is filled with silence."""
        padded = np.pad(audio, ((0, 0), (0, -audio.shape[1] % self.spec.hop_length)))
        latents: Array = self.graphs.run("vae_encoder", {"audio": padded[None]})["latents"]
        return np.ascontiguousarray(latents.transpose(0, 2, 1))

    def _decode(self, latents: Array) -> Array:
        def run(tile: Array) -> Array:
            audio: Array = self.graphs.run("vae_decoder", {"latents": tile})["audio"]
            return audio

        across = np.ascontiguousarray(latents.transpose(0, 2, 1))
        audio: Array = decode_tiled(run, across, self.spec.hop_length)[0]
        return audio


def _finished(audio: Array) -> Array:
    """The audio with its peak at -1 dBFS; what is no number or silent is an error, never a file."""
    if not np.all(np.isfinite(audio)):
        raise ModelError(
            "the model made values that are no numbers (NaN): the graphs are damaged or their "
            "precision is too low for this request. Export again with a higher precision."
        )
    peak = float(np.max(np.abs(audio)))
    if peak <= _SILENT and float(np.sqrt(np.mean(audio**2))) <= _SILENT:
        raise ModelError("the model made silence: try another seed or prompt.")
    loud: Array = audio * np.float32(PEAK / peak)
    return loud
