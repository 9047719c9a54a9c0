"""Which safetensors files of a folder hold its weights: those of its index, and no stray ones."""

from __future__ import annotations

from pathlib import Path

from luthier.errors import ModelError
from luthier.files import read_json

INDEX_SUFFIX = ".index.json"
# What transformers and diffusers call the weights of a model that has one file.
_STEMS = ("model", "diffusion_pytorch_model")


def safetensors_files(folder: Path) -> list[Path]:
    """The weight files of a model's folder, sorted.

    An index names its shards; without one, a file under the usual name counts alone; a folder with
    neither is taken to hold nothing but shards. Variants (`model.fp16.safetensors`) and forgotten
    files beside them are not read.

    Raises:
        ModelError: the index is damaged, or a shard that it names is missing.
    """
    for stem in _STEMS:
        one, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors{INDEX_SUFFIX}"
        if index.is_file():
            return _shards(index)
        if one.is_file():
            return [one]
    indices = sorted(folder.glob(f"*.safetensors{INDEX_SUFFIX}"), key=lambda path: len(path.name))
    return _shards(indices[0]) if indices else sorted(folder.glob("*.safetensors"))


def _shards(index: Path) -> list[Path]:
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    names = set(places.values()) if isinstance(places, dict) else set()
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise ModelError(
            f"{index} is damaged: its weight_map does not give the file of each tensor. "
            "Get the model again."
        )
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        others = f" ({len(missing) - 1} more are)" if len(missing) > 1 else ""
        raise ModelError(
            f"{index.parent / missing[0]} is missing{others}, but {index.name} names it: the model "
            "is incomplete. Get it again."
        )
    return [index.parent / name for name in sorted(names)]
