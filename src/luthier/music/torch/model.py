"""A music model in torch: diffusers' ACE-Step components, loaded from and saved to one folder.

What is saved has diffusers' layout (a sub-folder a component) plus `luthier.json` (rates, limits,
defaults) and `manifest.json` (sha256 of every file, checked on loading). mini and ACE-Step 1.5
differ only in what the files say; `checkpoints` knows the layouts that can be loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.ace_step_transformer import AceStepTransformer1DModel
from diffusers.pipelines.ace_step.modeling_ace_step import (
    AceStepAudioTokenDetokenizer,
    AceStepAudioTokenizer,
    AceStepConditionEncoder,
)
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Qwen3Model

from luthier.errors import ModelError
from luthier.files import read_json, sha256_of, write_json
from luthier.music.spec import ModelSpec, save_spec
from luthier.music.torch.autoencoder import MiniAutoencoder
from luthier.music.torch.diffusers_layout import component_folder, write_pipeline_files
from luthier.music.torch.model_folder import CLASSES, ModelFolder, open_model
from luthier.music.torch.model_folder import MANIFEST_NAME as MANIFEST_NAME
from luthier.music.torch.oobleck import Oobleck
from luthier.output_folder import MODEL, output_folder


@dataclass
class MusicModel:
    """All parts of a music model, in float32 on the CPU until moved."""

    spec: ModelSpec
    transformer: AceStepTransformer1DModel
    condition_encoder: AceStepConditionEncoder
    audio_tokenizer: AceStepAudioTokenizer
    audio_detokenizer: AceStepAudioTokenDetokenizer
    text_encoder: Qwen3Model
    tokenizer: Tokenizer
    vae: MiniAutoencoder | Oobleck

    def modules(self) -> dict[str, nn.Module]:
        """The torch modules by component name, in folder order."""
        return {
            f.name: m for f in fields(self) if isinstance(m := getattr(self, f.name), nn.Module)
        }

    @property
    def silence(self) -> Tensor:
        """The latent of silence (1, max frames, C)."""
        latent: Tensor = self.condition_encoder.silence_latent
        return latent


def load_model(folder: Path, *, verify: bool = True) -> MusicModel:
    """Load all of a music model; raise `ModelError` when it is missing, incomplete or altered.

    Args:
        folder: as `save_model` wrote it, or ACE-Step 1.5 in diffusers' or its original layout.
        verify: check every file against the manifest's sha256 first, where there is a manifest.
    """
    found = open_model(folder)
    if verify:
        verify_model(found)
    parts = {name: found.part(name) for name in CLASSES}
    return MusicModel(spec=found.spec, tokenizer=found.tokenizer(), vae=found.part("vae"), **parts)


def verify_model(model: ModelFolder) -> None:
    """Check a model's files against its manifest; only luthier's own layout has one."""
    if model.layout == "luthier":
        verify_files(model.folder)


def save_model(model: MusicModel, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Save every component, then the manifest, as one atomic folder. `dtype` is that of the stored
    weights.

    Raises:
        OutputError: `folder` holds something else than a model that was saved.
    """
    with output_folder(folder, MODEL) as temporary:
        for name, module in model.modules().items():
            _save_component(module, temporary / component_folder(name), dtype)
        (temporary / "tokenizer").mkdir()
        model.tokenizer.save(str(temporary / "tokenizer" / "tokenizer.json"))
        save_spec(model.spec, temporary)
        write_pipeline_files(
            temporary, {name: _class_name(module) for name, module in model.modules().items()}
        )
        write_manifest(temporary)


def _save_component(module: Any, folder: Path, dtype: torch.dtype) -> None:
    state = {name: value.to(dtype).contiguous() for name, value in module.state_dict().items()}
    folder.mkdir()
    if isinstance(module, Qwen3Model):
        module.config.save_pretrained(folder)
        name = "model.safetensors"
    else:
        module.save_config(folder)
        config = read_json(folder / "config.json")
        write_json(folder / "config.json", config | {"_class_name": _class_name(module)})
        name = "diffusion_pytorch_model.safetensors"
    save_file(state, folder / name, metadata={"format": "pt"})


def _class_name(module: nn.Module) -> str:
    """What diffusers calls the class: our Oobleck is its own there."""
    return "AutoencoderOobleck" if isinstance(module, Oobleck) else type(module).__name__


def write_manifest(folder: Path) -> None:
    """Record sha256 and size of every file below `folder`."""
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256_of(path),
            "size_bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST_NAME, "run.json")
    }
    write_json(folder / MANIFEST_NAME, {"files": files})


def verify_files(folder: Path) -> None:
    """Check every file of the manifest; raise `ModelError` naming the first that is missing or
    altered.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ModelError(
            f"{folder} has no {MANIFEST_NAME}: luthier did not write it, or only in part."
        )
    for name, record in read_json(path)["files"].items():
        file = folder / name
        if not file.is_file():
            raise ModelError(f"{file} is missing: the model folder is incomplete. Get it again.")
        if os.path.getsize(file) != record["size_bytes"] or sha256_of(file) != record["sha256"]:
            raise ModelError(
                f"{file} is corrupted: its sha256 is not the one in {MANIFEST_NAME}. "
                "Get the model again."
            )
