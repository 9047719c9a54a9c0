"""Tensor files without torch: as safetensors itself reads and writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load
from safetensors.torch import save_file

from luthier.errors import ModelError
from luthier.runtime.tensors import serialise, tensors_in, tensors_of


def test_what_is_written_is_what_safetensors_reads(tmp_path: Path) -> None:
    tensors = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.α": np.float32([[1, 2]]).T,
        "scalar": np.asarray(2.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    data = serialise(tensors, {"z": "1", "format": "pt"})
    assert data == serialise(dict(reversed(tensors.items())), {"format": "pt", "z": "1"})
    found = load(data)
    assert all(np.array_equal(found[name], value) for name, value in tensors.items())
    (tmp_path / "x.safetensors").write_bytes(data)
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt", "z": "1"}
    assert (8 + int.from_bytes(data[:8], "little")) % 8 == 0


def test_a_file_is_read_from_bytes_and_from_disk_alike(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32)
    tensors = {str(kind): torch.tensor([[1, 2], [3, -4]]).to(kind) for kind in kinds}
    save_file(tensors, path, metadata={"who": "me"})
    read, lazy = tensors_of(path.read_bytes(), "it"), tensors_in(path)
    assert read.metadata == lazy.metadata == {"who": "me"}
    for name, value in tensors.items():
        for found in (read.tensors[name], lazy.tensors[name]):
            assert found.read().dtype == np.float32
            np.testing.assert_array_equal(found.read(), value.float().numpy())
    data = path.read_bytes()
    for damaged in (data[:-1], data + b"x", b"", data[:9]):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="damaged"):
            tensors_in(path)
    with pytest.raises(ModelError, match="damaged: it ends too early"):
        lazy.tensors["torch.int32"].read()
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        tensors_in(path)
