"""The weights of a component by their names in its module, read from disk one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from luthier.errors import ModelError
from luthier.music.torch.model_folder import ModelFolder, original_silence
from luthier.music.torch.oobleck import folded
from luthier.music.torch.original_layout import diffusers_name

Array = NDArray[Any]
_DIRECTION, _LENGTH = "_v", "_g"  # of a weight that is normalised


class Weights(Protocol):
    """Something that holds named weights."""

    def __getitem__(self, name: str) -> Array:
        """The weight called `name`, floating values as float32.

        Raises:
            ModelError: there is none, or it holds values that are no numbers.
        """


class ModuleWeights:
    """Those of a module in memory, computed tables included."""

    def __init__(self, module: nn.Module) -> None:
        self._tensors: dict[str, Tensor] = dict(module.named_parameters())
        self._tensors |= dict(module.named_buffers())

    def __getitem__(self, name: str) -> Array:
        """See `Weights`."""
        return _checked(name, self._tensors[name].detach())


class StoredWeights:
    """Those of a component on disk. Nothing is kept: memory holds the one that was asked for.

    Args:
        model: the folder, in any layout.
        component: e.g. "transformer".

    Raises:
        ModelError: the folder has no safetensors of the component, or a damaged one.
    """

    def __init__(self, model: ModelFolder, component: str) -> None:
        self._model, self._component = model, component
        self._places: dict[str, tuple[Path, str]] = {}
        for path in model.weight_files(component):
            try:
                with safe_open(path, "pt") as file:
                    for key in file.keys():  # noqa: SIM118
                        self._note(path, key)
            except (SafetensorError, OSError) as error:
                raise ModelError(
                    f"{path} cannot be loaded: {error}. It is damaged or incomplete; get it again."
                ) from error
        if not self._places:
            raise ModelError(
                f"{model.part_folder(component)} holds no safetensors of the {component}: the "
                "model is not complete. Get it again."
            )

    def _note(self, path: Path, key: str) -> None:
        name = key
        if self._model.layout == "original" and self._component not in ("vae", "text_encoder"):
            place = diffusers_name(key)
            if place is None or place[0] != self._component:
                return
            name = place[1]
        self._places[name.removeprefix("model.")] = (path, key)

    def __getitem__(self, name: str) -> Array:
        """See `Weights`."""
        if name == "silence_latent" and self._model.layout == "original":
            return _checked(name, original_silence(self._model.folder))
        if name not in self._places and name + _DIRECTION in self._places:
            return _checked(name, folded(self._read(name + _DIRECTION), self._read(name + _LENGTH)))
        return _checked(name, self._read(name))

    def _read(self, name: str) -> Tensor:
        if name not in self._places:
            raise ModelError(
                f"the {self._component} in {self._model.part_folder(self._component)} lacks the "
                f"tensor {name}: the checkpoint is incomplete or of another model. Get it again."
            )
        path, key = self._places[name]
        # Opened anew each time, so that what was read before leaves memory again.
        with safe_open(path, "pt") as file:
            tensor: Tensor = file.get_tensor(key)
        return tensor.float() if tensor.is_floating_point() else tensor


class Renamed:
    """Another object's weights under names that begin with a prefix."""

    def __init__(self, weights: Weights, prefix: str) -> None:
        self._weights, self._prefix = weights, prefix

    def __getitem__(self, name: str) -> Array:
        """See `Weights`."""
        return self._weights[name.removeprefix(self._prefix)]


def _checked(name: str, tensor: Tensor) -> Array:
    values: Array = tensor.numpy()
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ModelError(
            f"the tensor {name} holds values that are no numbers (NaN or Inf): the checkpoint is "
            "damaged, or its training failed. Take another one."
        )
    return values


def fits(name: str, values: Array, shape: tuple[int, ...]) -> Array:
    """`values`, when the checkpoint's shape is the one that the configuration asks for."""
    if values.shape != shape:
        raise ModelError(
            f"the tensor {name} has the shape {values.shape}, its configuration asks for {shape}: "
            "it cannot be loaded. Weights and config.json are of different models."
        )
    return values


def shapes_of(values: Any) -> Mapping[str, tuple[int, ...]]:
    """The shapes of graph inputs, by name."""
    return {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values
    }


def as_half(values: Array) -> NDArray[np.float16]:
    """Float16, with what is too large for it at its limit."""
    limit = float(np.finfo(np.float16).max)
    return np.clip(values, -limit, limit).astype(np.float16)
