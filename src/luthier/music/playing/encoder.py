"""Words and recordings → what the denoiser reads, through the graphs of the encoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from luthier.audio.decode import read_audio
from luthier.music import templates
from luthier.music.playing import conditioning
from luthier.music.playing.pieces import Conditions
from luthier.music.request import MusicRequest
from luthier.music.spec import ModelSpec
from luthier.runtime.runner import GraphRunner
from luthier.runtime.text import token_ids
from luthier.runtime.tiles import encode_tiles

Array = NDArray[np.float32]

_TILE_S, _OVERLAP_S = 30, 2  # of the audio encoder
_SILENT = 1e-5


@dataclass(frozen=True)
class Encoder:
    """The encoders of one model."""

    graphs: GraphRunner
    spec: ModelSpec
    tokenizer: Tokenizer
    silence_latent: Array  # [1, max frames, C]

    def conditions(
        self,
        request: MusicRequest,
        instruction: str,
        source: Array,
        *,
        mask: Array,
        reference: Array,
        hints: Array | None,
        duration_s: float | None,
    ) -> Conditions:
        """Encode a resolved request.

        Args:
            instruction: what the model is told to do.
            source, mask: [1, T, C].
            reference: latents of the timbre, [1, timbre frames, C].
            hints: what audio codes say, [1, T, C]: they take the place of the source.
            duration_s: the length that the prompt tells, seconds.
        """
        metas = templates.metas_text(
            bpm=request.bpm,
            time_signature=request.time_signature,
            key=request.key,
            duration_s=duration_s,
        )
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
                "silence_latent": self.silence(source.shape[1]),
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

    def silence(self, frames: int) -> Array:
        """The latents of silence [1, frames, C]."""
        return conditioning.silence(self.silence_latent, frames)

    def fit(self, latents: Array, frames: int) -> Array:
        """Latents cut to `frames`, or followed by silence."""
        return conditioning.fit(latents, self.silence_latent, frames)

    def hints(self, source: Array) -> Array:
        """Source latents as their audio codes say them: [1, T, C] → [1, T, C]."""
        vectors = self._tokenized(source)["quantized"]
        return self._detokenized(vectors)[:, : source.shape[1]]

    def codes(self, path: Path) -> tuple[int, ...]:
        """A recording as audio codes, one for `pool_window` latent frames each.

        Raises:
            AudioError, PathError: it is no audio, or not there.
            ModelError: a graph is missing or damaged.
        """
        indices = self._tokenized(self.latents_of(self.read(path)))["indices"]
        return tuple(int(code) for code in indices.reshape(-1))

    def hints_of_codes(self, codes: tuple[int, ...], frames: int) -> Array:
        """What audio codes say: [1, frames, C], cut or followed by silence."""
        indices = np.array(codes, dtype=np.int64)[None, :, None]
        vectors = self.graphs.run("audio_code_embedding", {"indices": indices})["quantized"]
        return self.fit(self._detokenized(vectors), frames)

    def reference(self, path: Path | None) -> Array:
        """The latents of a timbre [1, timbre frames, C]; silence for none, or a silent file."""
        frames = self.spec.timbre_frames
        audio = self.read(path) if path else None
        if audio is None or np.max(np.abs(audio), initial=0) <= _SILENT:
            return self.silence(frames)
        total_s = frames / self.spec.frames_per_second
        segments = conditioning.reference_segments(audio, self.spec.sample_rate, total_s)
        return self.fit(self.latents_of(segments), frames)

    def read(self, path: Path) -> Array:
        """A recording (2, n) at the model's rate, within ±1."""
        audio, _ = read_audio(path, sample_rate=self.spec.sample_rate, channels=2)
        return np.clip(audio, -1.0, 1.0)

    def latents_of(self, audio: Array) -> Array:
        """Audio (2, n) → latents [1, T, C]; the last frame is filled with zeros."""

        def run(tile: Array) -> Array:
            latents: Array = self.graphs.run("vae_encoder", {"audio": tile})["latents"]
            return latents

        hop, rate = self.spec.hop_length, self.spec.frames_per_second
        padded = np.pad(audio, ((0, 0), (0, -audio.shape[1] % hop)))
        latents = encode_tiles(
            run, padded[None], hop, tile=round(_TILE_S * rate), overlap=round(_OVERLAP_S * rate)
        )
        return np.ascontiguousarray(latents.transpose(0, 2, 1))

    def _tokenized(self, source: Array) -> dict[str, NDArray[Any]]:
        """What the tokenizer says of latents [1, T, C], which silence fills up to a whole code."""
        frames = -(-source.shape[1] // self.spec.pool_window) * self.spec.pool_window
        return self.graphs.run("audio_tokenizer", {"hidden_states": self.fit(source, frames)})

    def _detokenized(self, vectors: Array) -> Array:
        hints: Array = self.graphs.run("audio_detokenizer", {"quantized": vectors})["lm_hints_25hz"]
        return hints
