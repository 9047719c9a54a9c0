"""An export that dies, or meets a broken checkpoint, leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from luthier.errors import ModelError, PathError
from luthier.export.leftovers import remove_leftovers
from luthier.music.export.export import export_model
from tiny import tiny_onnx, tiny_torch
from tiny_ace import parts, write_original


@pytest.mark.slow
def test_a_killed_export_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    tiny_onnx("fp32")
    out = tmp_path / "out"
    words = [sys.executable, "-m", "luthier", "export", str(tiny_torch()), "--out", str(out)]
    process = subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".out.*/*.onnx")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert remove_leftovers(out) == []  # it is alive: hands off
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".out.")]
    assert len(left) == 1
    assert remove_leftovers(out) == [left[0].resolve()]
    assert list(tmp_path.iterdir()) == []


def test_a_torn_checkpoint(tmp_path: Path) -> None:
    folder = write_original(tmp_path / "hub", parts(turbo=True))
    path = sorted(folder.glob("*.safetensors"))[1]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        export_model(folder, tmp_path / "out")
    path.unlink()
    with pytest.raises(ModelError, match="lacks the tensor"):
        export_model(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["hub"]


def test_weights_of_another_model(tmp_path: Path) -> None:
    folder = write_original(tmp_path / "hub", parts(turbo=True))
    path = sorted(folder.glob("*.safetensors"))[0]
    tensors = load_file(path)
    name = next(key for key, value in tensors.items() if value.dim() == 2)
    save_file(tensors | {name: tensors[name][:-1].clone()}, path)
    with pytest.raises(ModelError, match="its configuration asks for"):
        export_model(folder, tmp_path / "out")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PathError, match="is a file, but a folder is needed"):
        export_model(tiny_torch(), tmp_path / "file")
    with pytest.raises(PathError, match="is a file, but a folder is needed"):
        export_model(tiny_torch(), tmp_path / "file" / "out")
    shutil.copytree(tiny_torch(), tmp_path / "model")
    (tmp_path / "model" / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ModelError):
        export_model(tmp_path / "model", tmp_path / "out")
