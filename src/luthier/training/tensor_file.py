"""Read and write safetensors files tensor by tensor, so that memory holds one tensor and not the
model.

The format: eight bytes with the header's length, a JSON header (name → dtype, shape, place), and
the tensors' bytes. Files are read, not mapped: what is mapped counts as memory once it was touched.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from luthier.errors import ModelError

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {value: name for name, value in _TYPES.items()}
_COPIED = 2**22  # bytes at once


@dataclass(frozen=True)
class Record:
    """A tensor in a file."""

    path: Path
    dtype: str  # as the format calls it: F32, BF16, I64 …
    shape: tuple[int, ...]
    start: int  # of its bytes in the file
    size: int  # in bytes

    @property
    def kind(self) -> torch.dtype | None:
        """The torch type; None where it is not a floating-point one."""
        return _TYPES.get(self.dtype)

    def read(self) -> Tensor:
        """The tensor; `ModelError` where the file got shorter, or holds no numbers of ours."""
        return self._numbers(self.shape, self.start)

    def read_rows(self, first: int, count: int) -> Tensor:
        """`count` rows of the tensor from `first` on, fewer where it ends; errors as of `read`."""
        first = min(first, self.shape[0])
        shape = (min(count, self.shape[0] - first), *self.shape[1:])
        return self._numbers(shape, self.start + first * (self.size // max(1, self.shape[0])))

    def _numbers(self, shape: tuple[int, ...], start: int) -> Tensor:
        if self.kind is None:
            raise ModelError(f"{self.path} holds {self.dtype} where numbers of a model belong.")
        buffer = bytearray(math.prod(shape) * self.kind.itemsize)
        if not buffer:
            return torch.empty(shape, dtype=self.kind)
        with self.path.open("rb") as file:
            file.seek(start)
            if file.readinto(buffer) != len(buffer):
                raise ModelError(f"{self.path} is damaged: it ends too early.")
        return torch.frombuffer(buffer, dtype=self.kind).reshape(shape)


@dataclass(frozen=True)
class Slot:
    """A tensor to write: its name and type in the new file, and where its numbers come from."""

    name: str
    dtype: str
    source: Record | Tensor

    @property
    def size(self) -> int:
        """In bytes."""
        count = math.prod(self.source.shape)
        kind = _TYPES.get(self.dtype)
        if kind is not None:
            return count * kind.itemsize
        assert isinstance(self.source, Record)  # tensors are of a type that we know
        return self.source.size


def read_header(path: Path) -> dict[str, Record]:
    """What a safetensors file holds, by name, in the order of the bytes.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt"):  # checks the header and the length of the file
            pass
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing.") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    header.pop("__metadata__", None)
    records = {
        name: Record(path, row["dtype"], tuple(row["shape"]), 8 + length + first, last - first)
        for name, row in header.items()
        for first, last in [row["data_offsets"]]
    }
    return dict(sorted(records.items(), key=lambda item: item[1].start))


def type_name(value: Tensor) -> str:
    """What the format calls a tensor's type."""
    return _NAMES[value.dtype]


def write_tensors(
    target: Path, slots: Sequence[Slot], change: Callable[[Slot, Tensor], Tensor]
) -> int:
    """Write `slots` to `target`, each floating-point tensor through `change`.

    Args:
        change: a slot and its tensor → the tensor to store, of the same shape.

    Returns:
        Bytes of all tensors.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for slot in slots:
        places = [position, position + slot.size]
        shape = list(slot.source.shape)
        header[slot.name] = {"dtype": slot.dtype, "shape": shape, "data_offsets": places}
        position += slot.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for slot in slots:
            kind = _TYPES.get(slot.dtype)
            if kind is None and isinstance(slot.source, Record):
                _copy_bytes(slot.source, file.write)
                continue
            source = slot.source.read() if isinstance(slot.source, Record) else slot.source
            stored = change(slot, source).to(kind).contiguous()
            file.write(stored.reshape(-1).view(torch.uint8).numpy().data)
    return position


def _copy_bytes(record: Record, write: Callable[[bytes], object]) -> None:
    with record.path.open("rb") as file:
        file.seek(record.start)
        for at in range(0, record.size, _COPIED):
            write(file.read(min(_COPIED, record.size - at)))
