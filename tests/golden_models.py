"""Checkpoints whose results ACE-Step's own code computed, made whole again from `golden/`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from luthier.files import read_json
from luthier.music.torch.model_folder import CLASSES
from luthier.music.torch.oobleck import Oobleck
from luthier.music.torch.original_layout import component_config, original_name

GOLDEN = Path(__file__).parent / "golden"
REQUEST: dict[str, Any] = {
    **{"prompt": "lo-fi piano jazz", "bpm": 90, "key": "A minor", "time_signature": "4"},
    **{"instrumental": True, "duration": 8, "seed": 3},
}


def expected(name: str) -> NDArray[np.float32]:
    """A tensor of `expected.npz`, e.g. "turbo/pred_latents"."""
    with np.load(GOLDEN / "expected.npz") as file:
        return file[name]


def golden_model(kind: str, folder: Path, *, appending: bool = False) -> Path:
    """Write the checkpoint `kind` ("turbo", "xl-turbo") into `folder`; returns the model's folder.

    Parts that are not kept get random numbers: they do not touch what is compared.
    """
    shutil.copytree(GOLDEN / kind, folder)
    model = next(folder.glob("acestep-*"))
    silence = torch.from_numpy(np.load(GOLDEN / "silence_latent.npy"))
    torch.save(silence, model / "silence_latent.pt")
    config = read_json(model / "config.json")
    kept = load_file(model / "model.safetensors")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for component in ("transformer", "condition_encoder", "audio_tokenizer"):
            kept = _random(component, config) | kept
        kept = _random("audio_detokenizer", config) | kept
        vae = Oobleck.from_config(read_json(folder / "vae" / "config.json"))
    save_file(kept, model / "model.safetensors", metadata={"format": "pt"})
    state = {name: value.contiguous() for name, value in vae.state_dict().items()}
    save_file(state, folder / "vae" / "diffusion_pytorch_model.safetensors")
    if appending:
        text = folder / "Qwen3-Embedding-0.6B" / "tokenizer.json"
        shutil.copyfile(GOLDEN / "appending_tokenizer.json", text)
    return model


def _random(component: str, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    part = CLASSES[component].from_config(component_config(component, config))
    return {
        original_name(component, name): value.contiguous()
        for name, value in part.state_dict().items()
        if name != "silence_latent"
    }
