"""The stages of the full-size measurement, a process each: make the model, train, merge.

    python benchmarks/training_full_size.py make|train|merge FOLDER

The denoiser has diffusers' default shape, which is that of ACE-Step 1.5 2B, and random weights in
bfloat16. `training.py --full-size` runs them and reads what each prints: a JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

FRAMES, TOKENS, WIDTH, CHANNELS = 250, 200, 2048, 64  # ten seconds, a prompt with lyrics
STEPS = 2


def make(folder: Path) -> dict[str, Any]:
    """A model folder in diffusers' layout with nothing but the denoiser, sharded."""
    import torch
    from diffusers import AceStepTransformer1DModel

    from luthier.files import write_json

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = AceStepTransformer1DModel()
    model.save_pretrained(folder / "model" / "transformer", max_shard_size="2GB")
    write_json(folder / "model" / "model_index.json", {"_class_name": "AceStepPipeline"})
    return {"parameters": sum(p.numel() for p in model.parameters())}


def train(folder: Path) -> dict[str, Any]:
    """Optimiser steps on random latents by the trainer that `luthier train` has; a checkpoint."""
    import torch
    from safetensors.torch import save_file

    from luthier.files import make_folder
    from luthier.music.spec import ModelSpec
    from luthier.music.torch.model_folder import open_model
    from luthier.music.training.batches import Constants
    from luthier.music.training.feature_cache import Entry, Variant
    from luthier.progress import SILENT
    from luthier.training.checkpoint import Origin
    from luthier.training.config import config_from
    from luthier.training.metrics import read_metrics
    from luthier.training.shards import entries_of
    from luthier.training.trainer import Material, Trainer

    spec = ModelSpec(
        name="random-2b",
        sample_rate=48000,
        hop_length=1920,
        latent_channels=CHANNELS,
        patch_size=2,
        pool_window=5,
        timbre_frames=750,
        min_frames=128,
        max_frames=15000,
        default_steps=50,
        default_shift=1.0,
        default_guidance=7.0,
    )
    shard = make_folder(folder / "features") / "random.safetensors"
    latents, states = torch.randn(FRAMES, CHANNELS), torch.randn(TOKENS, WIDTH)
    save_file({"x/latents": latents, "x/states": states, "x/mask": torch.ones(TOKENS)}, shard)
    stored = entries_of(shard)["x"]
    entry = Entry("random", "", FRAMES, 0.0, (Variant("text2music", stored, None, stored),))
    settings: dict[str, Any] = {"rank": 16, "batch_size": 1, "crop_s": 10, "precision": "bf16"}
    settings |= {"max_steps": STEPS, "save_every": STEPS, "samples": 0, "tensorboard": False}
    started = time.perf_counter()
    transformer = open_model(folder / "model").part("transformer", torch.bfloat16)
    loaded = time.perf_counter() - started
    trainer = Trainer(
        transformer,
        Material([entry], [], 1),
        Constants(spec, torch.zeros(1, 15000, CHANNELS), torch.zeros(1, 1, WIDTH)),
        config_from(settings),
        Origin("random-2b", "", "", (), ()),
        folder / "checkpoints",
    )
    outcome = trainer.run(None, folder / "metrics.jsonl", SILENT)
    rows = read_metrics(folder / "metrics.jsonl")
    return {
        "checkpoint": outcome.checkpoint.name,
        "steps": outcome.step,
        "trained_parameters": trainer.trained_parameters,
        "load_s": round(loaded, 1),
        "step_s": [row["seconds"] for row in rows],
        "losses": [round(row["loss"], 4) for row in rows],
        "settings": settings,
    }


def merge(folder: Path) -> dict[str, Any]:
    """The checkpoint into the model, as `luthier merge` does it."""
    from luthier.training.checkpoint import find_checkpoints
    from luthier.training.merge import merge as merged
    from luthier.training.merge_adapters import Weighted

    adapter = find_checkpoints(folder / "checkpoints")[-1]
    started = time.perf_counter()
    report = merged(folder / "model", [Weighted(adapter)], folder / "merged")
    return {
        "merged_tensors": len(report.plan.changed),
        "size_gb": round(report.size_bytes / 1e9, 3),
        "seconds": round(time.perf_counter() - started, 1),
    }


if __name__ == "__main__":
    stage = {"make": make, "train": train, "merge": merge}[sys.argv[1]]
    print(json.dumps(stage(Path(sys.argv[2]))))
