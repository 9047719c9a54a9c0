"""Rewrite a safetensors file tensor by tensor, so that memory holds one tensor and not the model.

The format: eight bytes with the header's length, a JSON header (name → dtype, shape, place), and
the tensors' bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from luthier.errors import ModelError

_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {value: name for name, value in _TYPES.items()}


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Name → {dtype, shape, data_offsets} of a safetensors file, in the order of the bytes."""
    try:
        with safe_open(path, "pt"):  # checks the header and the length of the file
            pass
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    header.pop("__metadata__", None)
    return dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))


def type_of(record: dict[str, Any]) -> torch.dtype | None:
    """The torch type of a header's record; None where it is not a floating-point one."""
    return _TYPES.get(record["dtype"])


def rewrite(
    source: Path,
    target: Path,
    change: Callable[[str, Tensor], Tensor],
    stored: Callable[[str, torch.dtype], torch.dtype],
) -> int:
    """Copy `source` to `target`, each floating-point tensor through `change`.

    Args:
        change: name and tensor → the tensor to store, of the same shape.
        stored: name and the type in the source → the type to store it in.

    Returns:
        Bytes of all tensors.
    """
    header, records = read_header(source), {}
    position = 0
    for name, record in header.items():
        kind = type_of(record)
        size = record["data_offsets"][1] - record["data_offsets"][0]
        new = record["dtype"]
        if kind is not None:
            wanted = stored(name, kind)
            new, size = _NAMES[wanted], size // kind.itemsize * wanted.itemsize
        records[name] = {**record, "dtype": new, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **records}).encode()
    text += b" " * (-len(text) % 8)
    with safe_open(source, "pt") as tensors, target.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, record in records.items():
            value = tensors.get_tensor(name)
            if record["dtype"] in _TYPES:
                value = change(name, value).to(_TYPES[record["dtype"]])
            file.write(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return position
