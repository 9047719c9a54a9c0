"""The weights of a language model, read one at a time and written one at a time.

A graph of 4 billion weights never lies in memory: each tensor is read from safetensors, lowered to
its precision and appended to one data file, which the prefill and the decode graph share.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors import SafetensorError, safe_open

from luthier.errors import ModelError
from luthier.music.torch.weight_files import safetensors_files

LMPrecision = Literal["fp32", "fp16", "int8", "int4"]
# Weights that share a scale. Long blocks cost less memory, short ones keep four bits useful.
_BLOCK = {8: 128, 4: 32}
_SMALLEST_BLOCK = 16  # of ONNX Runtime's MatMulNBits
_PAGE = 4096  # a tensor that starts on a page can be mapped instead of copied


class Checkpoint:
    """The tensors of a model folder by name, read when asked for.

    Raises:
        ModelError: when the folder has no safetensors, or one of them cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}
        for path in safetensors_files(folder):
            try:
                with safe_open(path, framework="pt") as tensors:
                    names: list[str] = tensors.keys()
                self._files |= {name.removeprefix("model."): path for name in names}
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{path} cannot be read: {error}. Get the model again.") from error
        if not self._files:
            raise ModelError(
                f"{folder} holds no .safetensors: it is not a language model's folder."
            )

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32; `name` without the leading "model."."""
        if name not in self._files:
            raise ModelError(f"the model in {self.folder} lacks the weight {name}.")
        with safe_open(self._files[name], framework="pt") as tensors:
            stored = set(tensors.keys())
            tensor = tensors.get_tensor(name if name in stored else f"model.{name}")
        values: NDArray[np.float32] = tensor.to(torch.float32).numpy()
        if not np.all(np.isfinite(values)):
            raise ModelError(
                f"the weight {name} in {self.folder} holds values that are no numbers."
            )
        return values


class WeightFile:
    """The data file beside the graphs: arrays in, `TensorProto`s that point at them out."""

    def __init__(self, stream: IO[bytes], location: str) -> None:
        self._stream, self._location = stream, location

    def add(self, name: str, values: NDArray[Any]) -> TensorProto:
        """Append an array; the initializer that refers to it."""
        self._stream.write(bytes(-self._stream.tell() % _PAGE))
        offset = self._stream.tell()
        data = np.ascontiguousarray(values)
        self._stream.write(data.data)
        kind = helper.np_dtype_to_tensor_dtype(data.dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=data.shape)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self._location, "offset": offset, "length": data.nbytes}
        for key, value in place.items():
            tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=str(value)))
        return tensor


def seen_as(tensor: TensorProto, name: str, shape: tuple[int, ...]) -> TensorProto:
    """The same bytes under another name and shape: nothing is stored twice."""
    view = TensorProto()
    view.CopyFrom(tensor)
    view.name = name
    del view.dims[:]
    view.dims.extend(shape)
    return view


def block_of(width: int, bits: int) -> int:
    """How many weights of a row of `width` share a scale; `ModelError` when none fits."""
    block = _BLOCK[bits]
    while width % block:
        block //= 2
    if block < _SMALLEST_BLOCK:
        raise ModelError(
            f"a matrix of {width} columns cannot be stored in {bits} bits: the columns must be a "
            f"multiple of {_SMALLEST_BLOCK}. Choose fp16 or fp32."
        )
    return block


def quantised(
    weight: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8] | None]:
    """Blocks of a row share a scale, as ONNX Runtime's MatMulNBits wants them.

    Args:
        weight: (N, K), K a multiple of 16.
        bits: 8 (symmetric around 128) or 4 (with a zero point a block).

    Returns:
        Values (N, K / block, block · bits / 8), scales (N, K / block), and packed zero points
        (N, ⌈K / block / 2⌉) with 4 bits.
    """
    rows, width = weight.shape
    blocks = weight.reshape(rows, -1, block_of(width, bits))
    if bits == 8:
        scale = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / np.float32(127)
        values = np.rint(blocks / scale[..., None]) + 128
        return values.astype(np.uint8), scale.astype(np.float32), None
    low = np.minimum(blocks.min(axis=2), 0.0)
    high = np.maximum(blocks.max(axis=2), 0.0)
    scale = np.maximum(high - low, 1e-12) / np.float32(15)
    zero = np.clip(np.rint(-low / scale), 0, 15)
    values = np.clip(np.rint(blocks / scale[..., None]) + zero[..., None], 0, 15)
    return nibbles(values), scale.astype(np.float32), nibbles(zero)


def nibbles(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Two numbers below 16 a byte, the first in the low half; an odd last one alone."""
    small = values.astype(np.uint8)
    if small.shape[-1] % 2:
        small = np.concatenate([small, np.zeros_like(small[..., :1])], axis=-1)
    packed: NDArray[np.uint8] = small[..., 0::2] + small[..., 1::2] * np.uint8(16)
    return packed
