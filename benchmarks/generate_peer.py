"""One side of the paired playing measurement, in a process of its own.

    python benchmarks/generate_peer.py luthier|luthier-limited ONNX_DIR SECONDS STEPS
    python benchmarks/generate_peer.py diffusers-fp32|diffusers-bf16 MODEL_DIR SECONDS STEPS

Prints a JSON object: seconds to load, to denoise, to decode, and of everything after loading. A
short piece is played first, so that what is made once (sessions, packed weights) counts as loading.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROMPT, BPM, KEY, SHIFT, SEED = "calm piano with brushed drums", 84, "A minor", 3.0, 7
# Bytes of graph files: below any two large graphs, so that one is closed before the next opens.
MEMORY_LIMIT = 1_700_000_000
WARM_S, WARM_STEPS = 5.0, 2  # two steps: the first and a later one
Play = Callable[[float, int], dict[str, float]]


def luthier(folder: Path, limit: int | None) -> Play:
    """The exported graphs, as `luthier generate` plays them, with or without `--memory-limit`."""
    from luthier.music.playing.pipeline import MusicPipeline
    from luthier.music.request import request_from
    from luthier.runtime.pool import SessionPool

    pipeline = MusicPipeline(folder, pool=SessionPool(limit))

    def play(seconds: float, steps: int) -> dict[str, float]:
        asked = {"prompt": PROMPT, "bpm": BPM, "key": KEY, "duration": seconds, "seed": SEED}
        # Both sides the same work: no guidance doubles the denoiser's batch.
        asked |= {"steps": steps, "shift": SHIFT, "guidance_scale": 1.0}
        made = pipeline.generate(request_from(asked))
        audio = made.audio
        assert audio.shape[1] == round(seconds * made.sample_rate), audio.shape
        return dict(made.timings_s)

    return play


def diffusers(folder: Path, kind: str) -> Play:
    """diffusers' own pipeline on torch, from the same weights."""
    import torch
    from diffusers import AceStepPipeline, FlowMatchEulerDiscreteScheduler
    from transformers import PreTrainedTokenizerFast

    from luthier.music.torch.model_folder import CLASSES, open_model

    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    found = open_model(folder)
    parts = {name: found.part(name, dtype) for name in CLASSES}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=found.tokenizer(), pad_token="<|endoftext|>"
    )
    pipeline = AceStepPipeline(
        vae=_vae(found, dtype),
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
        audio_token_detokenizer=parts.pop("audio_detokenizer"),
        **parts,
    )
    pipeline.latents_per_second = found.spec.frames_per_second
    pipeline.set_progress_bar_config(disable=True)

    def play(seconds: float, steps: int) -> dict[str, float]:
        times = [time.perf_counter()]

        def step_done(*_: Any) -> dict[str, Any]:
            times.append(time.perf_counter())
            return {}

        pipeline(
            PROMPT, lyrics="", audio_duration=seconds, num_inference_steps=steps, shift=SHIFT,
            guidance_scale=1.0, bpm=BPM, keyscale=KEY, callback_on_step_end=step_done,
            generator=torch.Generator().manual_seed(SEED),
        )  # fmt: skip
        end = time.perf_counter()
        # The first step's time cannot be told from the conditions': it is taken as the others'.
        step = (times[-1] - times[1]) / (steps - 1)
        conditions = times[1] - times[0] - step
        return {"conditions": conditions, "denoise": step * steps, "decode": end - times[-1]}

    return play


def _vae(model: Any, dtype: Any) -> Any:
    """The autoencoder as diffusers' pipeline calls it; mini's is no class of diffusers."""
    from torch import nn

    from luthier.music.torch.oobleck import without_weight_norm

    vae = model.part("vae")
    if not hasattr(vae, "spectrum"):  # mini's Fourier transforms stay in float32
        without_weight_norm(vae)
        vae = vae.to(dtype)

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vae, self.dtype, self.device = vae, dtype, vae.device
            self.config = SimpleNamespace(sampling_rate=model.spec.sample_rate)

        def decode(self, latents: Any) -> Any:
            kept = next(self.vae.parameters()).dtype
            return SimpleNamespace(sample=self.vae.decode(latents.to(kept)))

    return Called()


def main() -> None:
    """Load, warm up, play, tell."""
    side, folder, seconds, steps = sys.argv[1], Path(sys.argv[2]), *map(float, sys.argv[3:5])
    started = time.perf_counter()
    name, _, kind = side.partition("-")
    if name == "luthier":
        play = luthier(folder, MEMORY_LIMIT if kind == "limited" else None)
    else:
        play = diffusers(folder, kind)
    play(WARM_S, WARM_STEPS)
    loaded = time.perf_counter()
    found = play(seconds, int(steps))
    total = time.perf_counter() - loaded
    told = {"load_s": loaded - started, "total_s": total}
    told |= {f"{stage}_s": value for stage, value in found.items()}
    print(json.dumps({name: round(value, 3) for name, value in told.items()}))


if __name__ == "__main__":
    main()
