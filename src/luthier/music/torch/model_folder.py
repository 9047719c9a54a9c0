"""A music model on disk, in whichever layout: its numbers, its parts one at a time, its identity.

Three layouts are read. luthier's: a folder a component, `luthier.json` and `manifest.json`.
diffusers': `model_index.json` and a folder a component. The original of ACE-Step 1.5: a folder
with `config.json`, `model.safetensors` and `silence_latent.pt`, beside `vae/` and
`Qwen3-Embedding-0.6B/`; its tensors get diffusers' names while they are read. Python files that
come with a checkpoint are never executed, and nothing pickled is loaded but plain tensors.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.models.transformers.ace_step_transformer import AceStepTransformer1DModel
from diffusers.pipelines.ace_step.modeling_ace_step import (
    AceStepAudioTokenDetokenizer,
    AceStepAudioTokenizer,
    AceStepConditionEncoder,
)
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen3Model
from transformers.utils import logging as transformers_logging

from luthier.errors import LuthierError, ModelError
from luthier.files import existing_folder, read_json, sha256_of
from luthier.music.spec import SPEC_NAME, ModelSpec, load_spec
from luthier.music.templates import TASKS
from luthier.music.torch.autoencoder import autoencoder_from
from luthier.music.torch.diffusers_layout import INDEX_NAME, component_folder
from luthier.music.torch.oobleck import context_frames, oobleck_from
from luthier.music.torch.original_layout import component_config, diffusers_name
from luthier.music.torch.weight_files import safetensors_files
from luthier.runtime.text import load_tokenizer
from luthier.runtime.tiles import FADE_FRAMES

Layout = Literal["luthier", "diffusers", "original"]
MANIFEST_NAME = "manifest.json"
CLASSES: dict[str, Any] = {
    "transformer": AceStepTransformer1DModel,
    "condition_encoder": AceStepConditionEncoder,
    "audio_tokenizer": AceStepAudioTokenizer,
    "audio_detokenizer": AceStepAudioTokenDetokenizer,
    "text_encoder": Qwen3Model,
}
_WEIGHTS, _SILENCE = "model.safetensors", "silence_latent.pt"
_TEXT_ENCODER = "Qwen3-Embedding-0.6B"
_SMALL_TASKS = ("text2music", "cover", "repaint")
# Of ACE-Step 1.5, where a configuration does not say.
_MIN_FRAMES, _TIMBRE_S, _POOL_WINDOW = 128, 30, 5
_TILE_FRAMES = 256  # ten seconds: at full size 0.2 GB more than the weights


@dataclass(frozen=True)
class ModelFolder:
    """A model folder whose layout is known; `open_model` makes it."""

    folder: Path
    layout: Layout

    @cached_property
    def spec(self) -> ModelSpec:
        """Rates, shapes, limits and defaults: luthier's file, or what the configurations say."""
        return load_spec(self.folder) if self.layout == "luthier" else _derived_spec(self)

    def config(self, name: str) -> dict[str, Any]:
        """The configuration of a component, with diffusers' names."""
        if self.layout == "original" and name in CLASSES and name != "text_encoder":
            return component_config(name, read_json(self.folder / "config.json"))
        values: dict[str, Any] = read_json(self.part_folder(name) / "config.json")
        return values

    def has(self, name: str) -> bool:
        """Whether the component is there: diffusers' folders may lack the audio tokenizers."""
        if self.layout == "original" and name in CLASSES and name != "text_encoder":
            return True
        return (self.part_folder(name) / "config.json").is_file()

    def part_folder(self, name: str) -> Path:
        """Where a component lies."""
        if self.layout != "original":
            return self.folder / component_folder(name)
        if name in ("text_encoder", "tokenizer"):
            return self.folder.parent / _TEXT_ENCODER
        return self.folder.parent / "vae" if name == "vae" else self.folder

    def weight_files(self, name: str = "transformer") -> list[Path]:
        """The safetensors files of a component; in the original layout it shares them.

        Raises what `safetensors_files` raises.
        """
        return safetensors_files(self.part_folder(name))

    def part(self, name: str, dtype: torch.dtype = torch.float32) -> Any:
        """Load one component, in evaluation mode on the CPU.

        Raises:
            ModelError: it is missing or damaged.
        """
        if not self.has(name):
            raise ModelError(
                f"{self.folder} has no {self.part_folder(name).name}/config.json: the model is not "
                "complete. Get it again, or convert it with its audio tokenizers."
            )
        try:
            if name == "vae":
                return _vae(self.part_folder(name))
            if self.layout == "original" and name != "text_encoder":
                return _from_original(self, name, dtype)
            with _no_progress_bar():
                return (
                    CLASSES[name]
                    .from_pretrained(
                        self.part_folder(name), torch_dtype=dtype, local_files_only=True
                    )
                    .eval()
                )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{self.part_folder(name)} cannot be loaded: {error}") from error

    def tokenizer(self) -> Tokenizer:
        """The text tokenizer."""
        return load_tokenizer(self.part_folder("tokenizer") / "tokenizer.json")

    @cached_property
    def identity(self) -> str:
        """What tells one model from another: sha256 of the manifest, else of every file in use."""
        if self.layout == "luthier":
            return sha256_of(self.folder / MANIFEST_NAME)
        total = hashlib.sha256()
        for path in self._files():
            total.update(f"{path.parent.name}/{path.name}\0{sha256_of(path)}\n".encode())
        return total.hexdigest()

    def _files(self) -> list[Path]:
        names = ("transformer", "condition_encoder", "text_encoder", "tokenizer", "vae")
        folders = {self.part_folder(name) for name in names if self.part_folder(name).is_dir()}
        wanted = ("config.json", "tokenizer.json", _SILENCE)
        found = {path for folder in folders for path in safetensors_files(folder)}
        return sorted(found | {f for d in folders for name in wanted if (f := d / name).is_file()})


def open_model(folder: Path) -> ModelFolder:
    """Find out in which layout a model folder is.

    A folder of the original's that holds one model beside `vae/` means that model.

    Raises:
        ModelError: it is no music model, several, or weights that only pickle could read.
    """
    existing_folder(folder, "model folder")
    if (folder / SPEC_NAME).is_file():
        return ModelFolder(folder, "luthier")
    if (folder / INDEX_NAME).is_file():
        return ModelFolder(folder, "diffusers")
    if _is_original(folder):
        for needed in ("vae", _TEXT_ENCODER):
            if not (folder.parent / needed / "config.json").is_file():
                raise ModelError(
                    f"{folder} is a checkpoint of ACE-Step 1.5, but {folder.parent / needed} is "
                    "not there: keep both as they were downloaded, side by side."
                )
        return ModelFolder(folder, "original")
    inside = sorted(path for path in folder.iterdir() if _is_original(path))
    if len(inside) == 1:
        return open_model(inside[0])
    if inside:
        names = ", ".join(path.name for path in inside)
        raise ModelError(f"{folder} holds several models: name one of {names} in it.")
    raise ModelError(
        f"{folder} is not a music model: it has neither {SPEC_NAME} (luthier's layout) nor "
        f"{INDEX_NAME} (diffusers') nor ACE-Step 1.5's config.json with {_WEIGHTS}."
    )


def _is_original(folder: Path) -> bool:
    config = folder / "config.json"
    if not config.is_file() or not any(folder.glob("*.safetensors")):
        return False
    try:
        values = read_json(config)
    except LuthierError:
        return False
    return isinstance(values, dict) and "timbre_hidden_dim" in values


def _derived_spec(model: ModelFolder) -> ModelSpec:
    vae, transformer = model.config("vae"), model.config("transformer")
    original = read_json(model.folder / "config.json") if model.layout == "original" else {}
    hop = math.prod(vae["downsampling_ratios"])
    version = f"{transformer.get('model_version') or ''} {model.folder.resolve().name}".lower()
    turbo = bool(transformer.get("is_turbo"))  # a version's name decides nothing
    is_base = not turbo and re.search(r"(?<![a-z])base(?![a-z])", version) is not None
    pool = model.config("audio_tokenizer") if model.has("audio_tokenizer") else {}
    timbre = math.ceil(_TIMBRE_S * vae["sampling_rate"] / hop)
    return ModelSpec(
        name=model.folder.resolve().name,
        sample_rate=vae["sampling_rate"],
        hop_length=hop,
        latent_channels=transformer["audio_acoustic_hidden_dim"],
        patch_size=transformer["patch_size"],
        pool_window=pool.get("pool_window_size", _POOL_WINDOW),
        timbre_frames=original.get("timbre_fix_frame", timbre),
        min_frames=_MIN_FRAMES,
        max_frames=_silence_frames(model),
        # The XL models are those whose encoders keep the smaller model's width.
        timbre_token=_encoder_width(transformer) != transformer["hidden_size"],
        tile_frames=_TILE_FRAMES,
        tile_overlap=context_frames(vae["downsampling_ratios"]) + FADE_FRAMES // 2,
        is_turbo=turbo,
        default_steps=8 if turbo else 50,
        default_shift=3.0 if turbo else 1.0,
        default_guidance=1.0 if turbo else 7.0,
        timestep_mean=original.get("timestep_mu", -0.4),
        timestep_deviation=original.get("timestep_sigma", 1.0),
        tasks=TASKS if is_base else _SMALL_TASKS,
    )


def _encoder_width(transformer: Mapping[str, Any]) -> int:
    return int(transformer.get("encoder_hidden_size") or transformer["hidden_size"])


def _silence_frames(model: ModelFolder) -> int:
    if model.layout == "original":
        return int(original_silence(model.folder).shape[1])
    for path in model.weight_files("condition_encoder"):
        with safe_open(path, "pt") as file:
            if "silence_latent" in file.keys():  # noqa: SIM118
                return int(file.get_slice("silence_latent").get_shape()[1])
    raise ModelError(
        f"{model.part_folder('condition_encoder')} holds no silence_latent: what is made with such "
        "a conversion drones. Convert the checkpoint again with a newer converter."
    )


def original_silence(folder: Path) -> Tensor:
    """The latent of silence (1, frames, C) of an original checkpoint, which stores it across."""
    path = folder / _SILENCE
    if not path.is_file():
        raise ModelError(f"{path} is missing: the checkpoint is incomplete. Get it again.")
    try:
        latent: Tensor = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ModelError(f"{path} is damaged or holds more than a tensor: {error}") from error
    return latent.float().transpose(1, 2).contiguous()


def _from_original(model: ModelFolder, name: str, dtype: torch.dtype) -> Any:
    """Build a component from the tensors of the original checkpoint that are its own."""
    kind, config = CLASSES[name], model.config(name)
    state: dict[str, Tensor] = {}
    for path in model.weight_files():
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                place = diffusers_name(key)
                if place is not None and place[0] == name:
                    state[place[1]] = file.get_tensor(key).to(dtype)
    if name == "condition_encoder":
        state["silence_latent"] = original_silence(model.folder).to(dtype)
    # The tokenizer computes buffers when it is made; the others take their tensors as they are.
    with torch.device("cpu" if name == "audio_tokenizer" else "meta"):
        module = kind.from_config(config)
    if name == "condition_encoder":
        module.silence_latent = torch.empty_like(state["silence_latent"], device="meta")
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval()


def _vae(folder: Path) -> Any:
    kind = read_json(folder / "config.json").get("_class_name", "AutoencoderOobleck")
    if kind == "MiniAutoencoder":
        return autoencoder_from(folder)
    if kind == "AutoencoderOobleck":
        return oobleck_from(folder)
    raise ModelError(
        f"{folder} is a {kind}: MiniAutoencoder and AutoencoderOobleck are what can be used."
    )


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    # transformers draws a bar even for a file of a megabyte; luthier has its own display.
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
