"""Read and write safetensors files, trusting nothing in those that are read. No torch.

The format: eight bytes with the header's length, a JSON header (name → dtype, shape, place), and
the tensors' bytes, one after another without gaps (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from luthier.errors import ModelError

if TYPE_CHECKING:  # the headers alone need no numpy
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_PREFIX = 8  # bytes of the header's length
_LONGEST_HEADER = 2**24
_MOST_AXES = 8
# The numbers that a trained matrix can have, as numpy stores them; bfloat16 is widened here. Some
# trainers store a strength as a whole number.
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
_WIDTHS = {name: int(kind[-1]) for name, kind in _TYPES.items()}  # bytes


class Numbers(Protocol):
    """A tensor wherever it lies."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes."""

    def read(self) -> Array:
        """Its numbers as float32."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file that was read: its shape, and its bytes."""

    shape: tuple[int, ...]
    dtype: str
    data: memoryview

    def read(self) -> Array:
        """Its numbers as float32."""
        return _numbers(self.data, self.dtype, self.shape)


@dataclass(frozen=True)
class FileTensor:
    """A tensor that stays in its file until it is asked for."""

    shape: tuple[int, ...]
    dtype: str
    path: Path
    start: int  # of its bytes in the file

    def read(self) -> Array:
        """Its numbers as float32; `ModelError` where the file has gone or got shorter."""
        size = math.prod(self.shape) * _WIDTHS[self.dtype]
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                data = file.read(size)
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read: {error.strerror}.") from error
        if len(data) != size:
            raise ModelError(f"{self.path} is damaged: it ends too early.")
        return _numbers(memoryview(data), self.dtype, self.shape)


class TensorFile(NamedTuple):
    """What a file holds: its tensors by name, and what is written beside them."""

    tensors: dict[str, Numbers]
    metadata: dict[str, str]


def _numbers(data: memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    import numpy as np

    stored = np.frombuffer(data, dtype=_TYPES[dtype])
    if dtype == "BF16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    # What is too large for float32 becomes infinite, which whoever checks the numbers sees.
    with np.errstate(over="ignore"):
        values: Array = stored.astype(np.float32).reshape(shape)
    return values


def tensors_of(data: bytes, what: str) -> TensorFile:
    """The tensors of a file that was read.

    Args:
        data: the whole file.
        what: what the file is called, for sentences.

    Raises:
        ModelError: it is damaged, or holds other than plain numbers.
    """
    view = memoryview(data)
    try:
        length = _header_length(view[:_PREFIX], len(data))
        header = _header(data[_PREFIX : _PREFIX + length])
        body = view[_PREFIX + length :]
        found: dict[str, Numbers] = {}
        for name, row in header.tensors.items():
            dtype, shape, start, end = _described(name, row, len(body))
            found[name] = StoredTensor(shape, dtype, body[start:end])
        _check_places(header.tensors, len(body))
    except ValueError as error:
        raise ModelError(f"{what} is no safetensors file, or is damaged: {error}.") from error
    return TensorFile(found, header.metadata)


def tensors_in(path: Path) -> TensorFile:
    """The tensors of a file on disk; only the header is read. Raises what `tensors_of` raises."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = _header_length(memoryview(file.read(_PREFIX)), size)
            header = _header(file.read(length))
        found: dict[str, Numbers] = {}
        begin = _PREFIX + length
        for name, row in header.tensors.items():
            dtype, shape, start, _ = _described(name, row, size - begin)
            found[name] = FileTensor(shape, dtype, path, begin + start)
        _check_places(header.tensors, size - begin)
    except ValueError as error:
        raise ModelError(f"{path} is no safetensors file, or is damaged: {error}.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    return TensorFile(found, header.metadata)


def serialise(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of float32 tensors: the same tensors and words give the same bytes."""
    import numpy as np

    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    body, position = [], 0
    for name, value in sorted(tensors.items()):
        data = np.asarray(value, "<f4").tobytes()
        places = [position, position + len(data)]
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": places}
        body.append(data)
        position += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _PREFIX)
    return b"".join([len(text).to_bytes(_PREFIX, "little"), text, *body])


class _Header(NamedTuple):
    tensors: dict[str, Any]
    metadata: dict[str, str]


def _header_length(prefix: memoryview, size: int) -> int:
    length = int.from_bytes(prefix, "little")
    if size < _PREFIX or length > min(_LONGEST_HEADER, size - _PREFIX):
        raise ValueError("its header does not fit into it")
    return length


def _header(text: bytes) -> _Header:
    try:
        header = json.loads(text, object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    told = header.pop("__metadata__", None)
    words = told if isinstance(told, dict) else {}
    return _Header(header, {k: v for k, v in words.items() if isinstance(v, str)})


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _described(name: str, row: Any, room: int) -> tuple[str, tuple[int, ...], int, int]:
    """The type, shape, start and end of a tensor in a body of `room` bytes."""
    shown = name[:80]
    if not isinstance(row, dict) or not row.keys() >= {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{shown!r} is not described")
    dtype, shape, place = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise ValueError(f"{shown!r} is of the type {str(dtype)[:20]!r}, no floating-point numbers")
    if not _are_sizes(shape) or len(shape) > _MOST_AXES or not _are_sizes(place) or len(place) != 2:
        raise ValueError(f"{shown!r} has no sound shape or place")
    start, end = place
    size = math.prod(shape) * _WIDTHS[dtype]
    if not (end - start == size and end <= room):
        raise ValueError(f"{shown!r} does not fit into its place")
    return dtype, tuple(shape), start, end


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**48 for value in values
    )


def _check_places(tensors: dict[str, Any], length: int) -> None:
    """Raise ValueError unless the tensors lie one after another and fill the file."""
    places = sorted(tuple(row["data_offsets"]) for row in tensors.values())
    reached = 0
    for start, end in places:
        if start != reached:
            raise ValueError("its tensors overlap or leave gaps")
        reached = end
    if reached != length:
        raise ValueError("it ends too early or too late")
