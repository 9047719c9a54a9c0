"""The built-in model: its weights lie in this package, in torch and in ONNX."""

from __future__ import annotations

from pathlib import Path

from luthier.errors import ModelError


def torch_folder() -> Path:
    """The model folder for training and export; `ModelError` when it was not packed."""
    return _packed("torch")


def onnx_folder() -> Path:
    """The folder of graphs for playing; `ModelError` when it was not packed."""
    return _packed("onnx")


def _packed(kind: str) -> Path:
    folder = Path(__file__).parent / kind
    if not (folder / "manifest.json").is_file():
        raise ModelError(
            f"the built-in model mini ({kind}) is not in this installation of luthier: install "
            "the released wheel, or name a model folder instead."
        )
    return folder
