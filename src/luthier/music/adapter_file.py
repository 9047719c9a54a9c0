"""An adapter's folder → its matrices by layer, ready to be added while a graph plays. No torch.

PEFT's format: `adapter_config.json` says how strong the adapter is, `adapter_model.safetensors`
holds two matrices a layer (LoRA: Hu et al., 2021; rsLoRA: Kalajdzievski, 2023). Pickled files are
never opened.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import LuthierError, ModelError, RequestError
from luthier.files import read_json
from luthier.music.original_layout import diffusers_name
from luthier.runtime.manifest import MANIFEST_NAME
from luthier.runtime.tensors import StoredTensor, tensors_of

if TYPE_CHECKING:  # a server that pins adapters only reads their facts, and starts without numpy
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
MOST_BYTES = 2 * 2**30  # of a file of matrices: twice what rank 256 in every layer of 2B takes
_MOST_CONFIG_BYTES = 2**20
_LARGEST = 1e9  # rank or alpha
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# What trainers put before a layer's name: PEFT, diffusers, the original's model, ComfyUI.
_WRAPPERS = ("base_model.model.", "transformer.", "decoder.", "diffusion_model.")
_ROLE = re.compile(r"(?P<layer>.+)\.lora_(?P<role>[AB])(?:\.default)?\.weight")
# These take part of the base weights into the adapter, so that base + adapter is not their sum.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")


class AdapterError(RequestError):
    """An adapter is missing, damaged, of a kind that cannot be played, or of another model."""


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to one layer: (x·down)·up."""

    down: Array  # (inputs, rank)
    up: Array  # (rank, outputs), the adapter's own scale in it

    @property
    def shape(self) -> tuple[int, int]:
        """Of the layer: inputs, outputs."""
        return self.down.shape[0], self.up.shape[1]


@dataclass(frozen=True)
class AdapterFacts:
    """What is known of an adapter without its matrices.

    Attributes:
        sha256, config_sha256: of its two files.
        base_model: what it says that it was trained on; may be empty.
        shapes: (inputs, outputs) by the layer's name in diffusers' denoiser.
    """

    folder: Path
    method: str  # LoRA or rsLoRA
    rank: int  # the largest
    base_model: str
    sha256: str
    config_sha256: str
    shapes: Mapping[str, tuple[int, int]] = field(repr=False)


@dataclass(frozen=True)
class Adapter:
    """An adapter that was checked: whole, finite, of a kind that can be played."""

    facts: AdapterFacts
    layers: Mapping[str, LowRank] = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """Of its matrices in memory."""
        return sum(layer.down.nbytes + layer.up.nbytes for layer in self.layers.values())


def open_adapter(folder: Path) -> Adapter:
    """Read an adapter.

    Raises:
        AdapterError: it is missing, damaged, not finite, too large, or of a kind that must be
            merged instead.
    """
    config_data = _bytes_of(folder, CONFIG_NAME, _MOST_CONFIG_BYTES)
    config = _config(folder, config_data)
    data = _bytes_of(folder, WEIGHTS_NAME, MOST_BYTES)
    try:
        tensors = tensors_of(data, f"{folder / WEIGHTS_NAME}")
    except ModelError as error:
        raise AdapterError(str(error)) from error
    layers = _layers(folder, config, tensors)
    digests = {
        WEIGHTS_NAME: hashlib.sha256(data).hexdigest(),
        CONFIG_NAME: hashlib.sha256(config_data).hexdigest(),
    }
    _check_manifest(folder, digests)
    facts = AdapterFacts(
        folder,
        "rsLoRA" if config.get("use_rslora") else "LoRA",
        max(layer.down.shape[1] for layer in layers.values()),
        str(config.get("base_model_name_or_path") or ""),
        digests[WEIGHTS_NAME],
        digests[CONFIG_NAME],
        {name: layer.shape for name, layer in layers.items()},
    )
    return Adapter(facts, layers)


def _check_manifest(folder: Path, digests: Mapping[str, str]) -> None:
    """Raise `AdapterError` where a checkpoint of `luthier train` is not what it was written as."""
    if not (folder / MANIFEST_NAME).is_file():
        return
    try:
        files = read_json(folder / MANIFEST_NAME)["files"]
        wrong = [name for name, digest in digests.items() if files[name]["sha256"] != digest]
    except (LuthierError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{folder / MANIFEST_NAME} is damaged, or of something else: remove it, or take "
            "another checkpoint."
        ) from error
    if wrong:
        raise AdapterError(
            f"the checkpoint {folder} is torn: the sha256 of {wrong[0]} is not the one in "
            f"{MANIFEST_NAME}. Take another one."
        )


def _bytes_of(folder: Path, name: str, most: int) -> bytes:
    path = folder / name
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(folder, name) from None
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > most:
        raise AdapterError(f"{path} is larger than {most / 1e6:.3g} MB: that is no adapter.")
    return data


def _missing(folder: Path, name: str) -> AdapterError:
    if not folder.is_dir():
        return AdapterError(f"the adapter {folder} does not exist, or is not a folder.")
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


def _config(folder: Path, data: bytes) -> dict[str, Any]:
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{folder / CONFIG_NAME} is not valid JSON: {error}.") from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise _to_merge(folder, f"of the kind {str(kind)[:40]}")
    if config.get("use_dora"):
        raise _to_merge(folder, "a DoRA, whose rows are scaled by lengths of the whole weight,")
    initial = str(config.get("init_lora_weights", ""))
    if initial.lower().startswith(_CHANGES_BASE):
        raise AdapterError(
            f"{folder} was initialised by {initial[:40]}, which changes the base weights too: "
            "convert it to a plain LoRA first (peft: save_pretrained with "
            "path_initial_model_for_weight_conversion)."
        )
    for name in ("r", "lora_alpha"):
        value = config.get(name)
        if not _is_positive(value):
            found = "is missing" if value is None else f"is {str(value)[:40]!r}"
            raise AdapterError(
                f"{folder / CONFIG_NAME}: {name} {found}, but rank and alpha (numbers above 0) say "
                "how strong the adapter is. Write in what it was trained with."
            )
    return dict(config)


def _is_positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < _LARGEST


def _to_merge(folder: Path, what: str) -> AdapterError:
    return AdapterError(
        f"{folder} is {what} and cannot be played beside a model: LoRA and rsLoRA can. Turn it "
        "into a model with luthier merge, and export that."
    )


def _layers(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]
) -> dict[str, LowRank]:
    pairs: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        match = _ROLE.fullmatch(_unwrapped(name))
        if match is None:
            raise AdapterError(
                f"{folder} also holds {name[:120]!r}: only the two matrices of linear layers can "
                "be played. luthier merge takes DoRA and LoKr too."
            )
        pairs.setdefault(match["layer"], {})[match["role"]] = tensor
    if not pairs:
        raise AdapterError(f"{folder} holds no matrices of an adapter.")
    found = {_native(name): _pair(folder, config, name, pair) for name, pair in pairs.items()}
    if len(found) != len(pairs):
        raise AdapterError(f"{folder} names a layer twice, in two spellings.")
    return found


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _native(layer: str) -> str:
    """A layer's name in diffusers; trainers of the original layout say q_proj and so on."""
    try:
        found = diffusers_name(f"decoder.{layer}.weight")
    except ModelError:
        return layer
    return found[1].removesuffix(".weight") if found else layer


def _pair(
    folder: Path, config: Mapping[str, Any], layer: str, pair: Mapping[str, StoredTensor]
) -> LowRank:
    rank = _of_layer(folder, config, "rank_pattern", layer, config["r"])
    told = ", ".join(f"lora_{role} {tensor.shape}" for role, tensor in sorted(pair.items()))
    shapes = [pair[role].shape for role in "AB" if role in pair]
    if not (len(shapes) == 2 and all(len(shape) == 2 for shape in shapes)) or not (
        shapes[0][0] == shapes[1][1] == rank
    ):
        raise AdapterError(
            f"{folder}: the matrices of {layer} do not go together: {told}, and the configuration "
            f"says rank {rank:g}."
        )
    alpha = _of_layer(folder, config, "alpha_pattern", layer, config["lora_alpha"])
    import numpy as np

    scale = np.float32(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
    found = LowRank(pair["A"].read().T, pair["B"].read().T * scale)
    if not (np.isfinite(found.down).all() and np.isfinite(found.up).all()):
        raise AdapterError(
            f"{folder / WEIGHTS_NAME} holds values that are no numbers (NaN or infinite) in "
            f"{layer}: the training diverged. Take an earlier checkpoint."
        )
    return found


def _of_layer(
    folder: Path, config: Mapping[str, Any], name: str, layer: str, default: float
) -> float:
    """The rank or alpha of a layer: of the first pattern that the layer's name ends with."""
    patterns = config.get(name) or {}
    if not isinstance(patterns, dict):
        raise AdapterError(f"{folder / CONFIG_NAME}: {name} is no object.")
    for pattern, value in patterns.items():
        if not re.fullmatch(r"[\w.]+", pattern) or not _is_positive(value):
            raise AdapterError(
                f"{folder / CONFIG_NAME}: {name} has {str(pattern)[:80]!r}: only names of layers "
                "with numbers above 0 are read here, no expressions. luthier merge reads those."
            )
        if f".{layer}".endswith(f".{pattern}"):
            return float(value)
    return default
