"""What a run trains, an adapter or all weights, behind one set of functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn

from luthier.errors import AdapterError
from luthier.files import make_folder
from luthier.music.adapters.file import read_adapter
from luthier.training.config import TrainConfig
from luthier.training.lora import (
    add_adapter,
    copy_weights,
    load_adapter,
    peft_state,
    save_adapter,
)

FULL_WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"
Parameters = list[tuple[str, nn.Parameter]]


def prepare(transformer: Any, config: TrainConfig) -> Parameters:
    """Give `transformer` a fresh adapter, or free all its weights: the parameters by name."""
    if config.adapter != "full":
        return add_adapter(transformer, config)
    transformer.float().requires_grad_(True)
    return list(transformer.named_parameters())


def save_trained(transformer: Any, folder: Path, base_name: str, *, full: bool) -> None:
    """Write what was trained: an adapter as PEFT reads it, or the denoiser as diffusers does."""
    if not full:
        save_adapter(transformer, folder, base_name)
        return
    make_folder(folder / FULL_WEIGHTS.parent)
    transformer.save_config(folder / FULL_WEIGHTS.parent)
    state = {k: v.detach().float().cpu().contiguous() for k, v in transformer.state_dict().items()}
    (folder / FULL_WEIGHTS).write_bytes(serialised(state, metadata={"format": "pt"}))


def read_trained(folder: Path) -> dict[str, Tensor]:
    """The trained tensors of a checkpoint by name; `AdapterError` when they are damaged."""
    path = folder / FULL_WEIGHTS
    if not path.is_file():
        return peft_state(read_adapter(folder))
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} is damaged: {error}") from error
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise AdapterError(f"{path} holds values that are no numbers (NaN) in {name}.")
    return tensors


def load_trained(transformer: Any, folder: Path) -> None:
    """Put a checkpoint, or an adapter of any trainer, into a fresh base denoiser to play it.

    Raises:
        AdapterError: it is damaged, or was made for another model.
    """
    if (folder / FULL_WEIGHTS).is_file():
        copy_weights(list(transformer.named_parameters()), read_trained(folder), folder)
    else:
        load_adapter(transformer, folder)
