"""What a run will need: memory by a count of what is kept, time by a short measurement, disk.

Counts, not promises: allocators keep more than is used, and a matrix product is not a training
step. They are within some ten per cent for memory and a factor of two for time, good enough to
choose a preset by.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from luthier.training.config import TrainConfig, config_from

_GB = 1e9
# Activations that a layer keeps for the way back, in its own width and in its perceptron's:
# norms, queries, keys, values and outputs of two attentions, residuals; gate, up and product.
_KEPT_WIDTHS, _KEPT_INNER = 16, 3
_OVERHEAD = 1.1  # allocator, and buffers of the libraries
_CONTEXT_GB = 0.6  # of CUDA itself
_EFFICIENCY = 0.35  # of a matrix product's speed that a training step reaches
_SIZE = 1024  # of the product that is measured

PRESETS: dict[str, dict[str, Any]] = {
    "8 GB": {"rank": 16, "batch_size": 1, "accumulate": 8, "optimizer": "adamw8bit"},
    "12 GB": {"rank": 32, "batch_size": 1, "accumulate": 8},
    "16 GB": {"rank": 64, "batch_size": 2, "accumulate": 4},
    "24 GB": {"rank": 128, "batch_size": 4, "accumulate": 2},
    "80 GB": {"rank": 256, "batch_size": 16, "gradient_checkpointing": False},
    "CPU": {"rank": 16, "batch_size": 1, "accumulate": 4, "precision": "float32"},
}
_COMMON = {"gradient_checkpointing": True, "precision": "bf16"}


@dataclass(frozen=True)
class Size:
    """Of a model in training."""

    parameters: int  # of the denoiser, without adapter
    trained: int
    layers: int
    width: int
    inner: int  # width of the perceptrons
    tokens: int  # of one crop


@dataclass(frozen=True)
class PresetFit:
    """A preset, what it needs, and whether that is there."""

    name: str
    settings: Mapping[str, Any]
    memory_gb: float
    fits_name: bool  # in the memory that it is named after
    fits_here: bool


def memory_bytes(size: Size, config: TrainConfig, *, half: bool) -> float:
    """Peak bytes of a training step."""
    number = 2 if half else 4
    full = config.adapter == "full"
    frozen = 0 if full else size.parameters * number
    moments = 2 if config.optimizer == "adamw8bit" else 8
    trained = size.trained * (4 + 4 + moments + (4 if config.ema else 0))
    if half and full:
        trained += size.trained * 2  # the copy that autocast computes with
    rows = config.batch_size * size.tokens
    layer = rows * number * (_KEPT_WIDTHS * size.width + _KEPT_INNER * size.inner)
    if config.gradient_checkpointing:
        activations = rows * number * size.width * size.layers + layer
    else:
        activations = layer * size.layers
    masks = 2 * config.batch_size * size.tokens**2 * number
    return (frozen + trained + activations + masks) * _OVERHEAD


def preset_config(name: str, config: TrainConfig) -> TrainConfig:
    """`config` with a preset's settings."""
    return config_from(config.model_dump() | _COMMON | PRESETS[name])


def presets_that_fit(
    size: Size, config: TrainConfig, available: int, *, on_cpu: bool
) -> list[PresetFit]:
    """Every preset with its estimate for this model; `available` is the bytes of this device."""
    fits = []
    for name, settings in PRESETS.items():
        changed = preset_config(name, config)
        scaled = size
        if config.adapter == "lora":  # its size goes with the rank
            trained = round(size.trained / config.rank * changed.rank)
            scaled = Size(**vars(size) | {"trained": trained})
        needed = memory_bytes(scaled, changed, half=bool(changed.bf16)) / _GB
        is_cpu = name == "CPU"
        needed += 0.0 if is_cpu else _CONTEXT_GB
        named = float("inf") if is_cpu else float(name.split()[0])
        here = is_cpu == on_cpu and (not available or needed <= available / _GB)
        fits.append(PresetFit(name, settings, round(needed, 2), needed <= named, here))
    return fits


def operations(size: Size, config: TrainConfig) -> float:
    """Floating-point operations of one optimiser step."""
    tokens = size.tokens * config.batch_size * config.accumulate
    passes = 3 if config.gradient_checkpointing else 2  # forward, backward for the inputs
    return tokens * (2 * size.parameters * passes + 2 * size.trained)


def step_seconds(size: Size, config: TrainConfig, device: torch.device, *, half: bool) -> float:
    """Seconds of one optimiser step, from how fast the device multiplies two matrices now."""
    kind = torch.bfloat16 if half else torch.float32
    a = torch.ones(_SIZE, _SIZE, dtype=kind, device=device)
    best = float("inf")
    for _ in range(4):  # the first one warms up
        started = time.perf_counter()
        float((a @ a)[0, 0])  # reading waits for the device
        best = min(best, time.perf_counter() - started)
    return operations(size, config) / (2 * _SIZE**3 / best * _EFFICIENCY)


def checkpoint_bytes(size: Size, config: TrainConfig) -> int:
    """Bytes of one checkpoint."""
    # Once a spelling: PEFT's, diffusers', ACE-Step's and ComfyUI's, which hold not every kind.
    copies = {"lora": 3 if config.use_dora else 4, "lokr": 3, "full": 1}[config.adapter]
    state = (2 if config.optimizer == "adamw8bit" else 8) + (4 if config.ema else 0)
    return size.trained * (4 * copies + state)
