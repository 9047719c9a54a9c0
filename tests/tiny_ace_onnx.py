"""ACE-Step 1.5 in miniature, twice from the same random weights: diffusers' pipeline and graphs."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AceStepPipeline
from numpy.typing import NDArray

import tiny_ace
from luthier.audio.encode import write_audio
from luthier.music.playing.pipeline import Generated, MusicPipeline
from luthier.music.request import request_from

_SESSION = tempfile.TemporaryDirectory(prefix="luthier-tiny-ace-")
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """The same model in two runtimes, and recordings to work on."""

    ours: MusicPipeline
    theirs: Any  # AceStepPipeline
    source: Path
    reference: Path

    def seconds(self, frames: int) -> float:
        """The length of so many latent frames."""
        return frames / self.ours.spec.frames_per_second

    def play(self, **asked: Any) -> Generated:
        """By our runtime; instrumental, seed 3."""
        values = {"prompt": "calm piano", "instrumental": True, "seed": 3, "bpm": 90, "key": "Am"}
        return self.ours.generate(request_from(values | asked))

    def play_theirs(self, like: Generated, **asked: Any) -> Any:
        """By diffusers, from the noise that `like` was made of; "latent" is the default output."""
        noise = np.random.default_rng(like.seed).standard_normal(
            like.latents.shape, dtype=np.float32
        )
        values = {
            **{"prompt": "calm piano", "lyrics": "[Instrumental]", "bpm": 90},
            **{"keyscale": "A minor", "num_inference_steps": like.request.steps},
            **{"shift": like.request.shift, "guidance_scale": like.request.guidance_scale},
            **{"latents": torch.from_numpy(noise), "output_type": "latent"},
        }
        return self.theirs(**values | asked).audios.numpy()


def recording(path: Path, channels_samples: Floats, rate: int) -> Path:
    """Write samples exactly."""
    write_audio(path, channels_samples, rate, subtype="float")
    return path


@functools.cache
def pair(turbo: bool) -> Pair:
    """Made once a session."""
    from luthier.music.export.export import export_model

    root, name = Path(_SESSION.name), "acestep-v15-turbo" if turbo else "acestep-v15-base"
    made = tiny_ace.parts(turbo=turbo)
    folder = tiny_ace.write_diffusers(root / "torch" / name, made)
    ours = MusicPipeline(export_model(folder, root / name, precision="fp32").folder, threads=1)
    theirs = AceStepPipeline(**made)
    theirs.set_progress_bar_config(disable=True)
    spec, draw = ours.spec, np.random.default_rng(0)
    # An odd number of frames, more than the least.
    source = 0.1 * draw.standard_normal((2, 141 * spec.hop_length))
    timbre = 0.1 * draw.standard_normal((2, 2 * spec.sample_rate))
    return Pair(
        ours,
        theirs,
        recording(root / f"{name}-source.wav", source.astype(np.float32), spec.sample_rate),
        recording(root / f"{name}-timbre.wav", timbre.astype(np.float32), spec.sample_rate),
    )
