"""Where an adapter lies: a folder as PEFT or diffusers write it, or one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from luthier.errors import AdapterError
from luthier.provenance import run_path

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
PIPELINE_WEIGHTS_NAME = "pytorch_lora_weights.safetensors"  # diffusers' `load_lora_weights`
SUFFIX = ".safetensors"
# Where a checkpoint of `luthier train` holds it as ACE-Step's own loader and ComfyUI read it.
ACESTEP_FOLDER, COMFYUI_NAME = "acestep", "comfyui.safetensors"
OTHER_SPELLINGS = (
    PIPELINE_WEIGHTS_NAME,
    *(f"{ACESTEP_FOLDER}/{name}" for name in (CONFIG_NAME, WEIGHTS_NAME)),
    COMFYUI_NAME,
)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OF_MODELS = ("model_index.json", "luthier.json", "config.json")


@dataclass(frozen=True)
class AdapterFiles:
    """Where an adapter lies.

    Attributes:
        place: as it was named, a folder or a file.
        config: PEFT's configuration; None where all is in one file.
    """

    place: Path
    weights: Path
    config: Path | None

    @property
    def all(self) -> tuple[Path, ...]:
        """The files, the weights first."""
        return (self.weights, self.config) if self.config else (self.weights,)


def adapter_files(place: Path) -> AdapterFiles:
    """The files of the adapter that `place` means; `AdapterError` says what there is instead."""
    try:
        return _found(place)
    except OSError as error:
        raise AdapterError(f"the adapter {place} cannot be read: {error.strerror}.") from error


def _found(place: Path) -> AdapterFiles:
    if place.is_file():
        if place.suffix in _PICKLED:
            raise AdapterError(
                f"{place} is pickled, which is not opened because it could run code: save the "
                "adapter as safetensors."
            )
        if place.suffix != SUFFIX:
            raise AdapterError(f"{place} is no adapter: a file of one ends with {SUFFIX}.")
        beside = place.with_name(CONFIG_NAME)
        has_config = place.name == WEIGHTS_NAME and beside.is_file()
        return AdapterFiles(place, place, beside if has_config else None)
    if not place.is_dir():
        raise AdapterError(f"the adapter {place} does not exist.")
    config, weights = place / CONFIG_NAME, place / WEIGHTS_NAME
    if config.is_file():
        if not weights.is_file():
            raise missing(place, WEIGHTS_NAME)
        return AdapterFiles(place, weights, config)
    for name in (WEIGHTS_NAME, PIPELINE_WEIGHTS_NAME):
        if (place / name).is_file():
            return AdapterFiles(place, place / name, None)
    if is_model_folder(place):
        raise missing(place, CONFIG_NAME)
    single = sorted(p for p in place.iterdir() if p.suffix == SUFFIX and p.is_file())
    if len(single) > 1:
        names = ", ".join(path.name for path in single[:4])
        raise AdapterError(
            f"{place} holds {len(single)} files of tensors ({names}): name the one that is meant."
        )
    if not single:
        raise missing(place, CONFIG_NAME)
    return AdapterFiles(place, single[0], None)


def is_model_folder(folder: Path) -> bool:
    """Whether the tensors in a folder are a model's or a run's, and no adapter's."""
    return any((folder / name).exists() for name in (*_OF_MODELS, "transformer", "checkpoints"))


def home_of(place: Path) -> Path:
    """The folder with the records of an adapter: the checkpoint that holds it in this spelling."""
    folder = place.parent if place.is_file() else place
    return folder.parent if folder.name == ACESTEP_FOLDER else folder


def record_of(place: Path) -> Path:
    """The record of an adapter or checkpoint, else of the checkpoint that it belongs to."""
    own = run_path(place)
    return own if own.is_file() else home_of(place) / "run.json"


def missing(folder: Path, name: str) -> AdapterError:
    """What to say where a folder lacks the file `name` of an adapter."""
    if (folder / "transformer").is_dir():
        return AdapterError(
            f"{folder} holds all weights of a model, not an adapter: turn it into a model with "
            "luthier merge, and export that."
        )
    if (folder / "checkpoints").is_dir():
        return AdapterError(f"{folder} is a training run: name one of its checkpoints.")
    if any(path.suffix in _PICKLED for path in folder.iterdir()):
        return AdapterError(
            f"{folder} has no {name}, and its other files are pickled, which is not opened because "
            "it could run code: save the adapter as safetensors."
        )
    return AdapterError(f"{folder} is not an adapter: {name} is missing.")
