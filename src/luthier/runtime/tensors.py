"""Read a safetensors file from bytes, trusting nothing in it. No torch.

The format: eight bytes with the header's length, a JSON header (name → dtype, shape, place), and
the tensors' bytes, one after another without gaps (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.errors import ModelError

if TYPE_CHECKING:  # the headers alone need no numpy
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_PREFIX = 8  # bytes of the header's length
_LONGEST_HEADER = 2**24
_MOST_AXES = 8
# The numbers that a trained matrix can have, as numpy stores them; bfloat16 is widened here.
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_WIDTHS = {name: int(kind[-1]) for name, kind in _TYPES.items()}  # bytes


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file that was read: its shape, and its bytes."""

    shape: tuple[int, ...]
    dtype: str
    data: memoryview

    def read(self) -> Array:
        """Its numbers as float32."""
        import numpy as np

        stored = np.frombuffer(self.data, dtype=_TYPES[self.dtype])
        if self.dtype == "BF16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        # What is too large for float32 becomes infinite, which whoever checks the numbers sees.
        with np.errstate(over="ignore"):
            values: Array = stored.astype(np.float32).reshape(self.shape)
        return values


def tensors_of(data: bytes, what: str) -> dict[str, StoredTensor]:
    """The tensors of a file by name.

    Args:
        data: the whole file.
        what: what the file is called, for sentences.

    Raises:
        ModelError: it is damaged, or holds other than floating-point numbers.
    """
    try:
        header, body = _header(data)
        found = {
            name: _tensor(name, row, body) for name, row in header.items() if name != "__metadata__"
        }
        _check_places(header, len(body))
    except ValueError as error:
        raise ModelError(f"{what} is no safetensors file, or is damaged: {error}.") from error
    return found


def _header(data: bytes) -> tuple[dict[str, Any], memoryview]:
    length = int.from_bytes(data[:_PREFIX], "little")
    if len(data) < _PREFIX or length > min(_LONGEST_HEADER, len(data) - _PREFIX):
        raise ValueError("its header does not fit into it")
    try:
        header = json.loads(data[_PREFIX : _PREFIX + length], object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header, memoryview(data)[_PREFIX + length :]


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _tensor(name: str, row: Any, body: memoryview) -> StoredTensor:
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
    if not (end - start == size and end <= len(body)):
        raise ValueError(f"{shown!r} does not fit into its place")
    return StoredTensor(tuple(shape), dtype, body[start:end])


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**48 for value in values
    )


def _check_places(header: dict[str, Any], length: int) -> None:
    """Raise ValueError unless the tensors lie one after another and fill the file."""
    places = sorted(
        tuple(row["data_offsets"]) for name, row in header.items() if name != "__metadata__"
    )
    reached = 0
    for start, end in places:
        if start != reached:
            raise ValueError("its tensors overlap or leave gaps")
        reached = end
    if reached != length:
        raise ValueError("it ends too early or too late")
