"""What the matrices of a model are multiplied with while it plays: for 4 bits, and for static 8.

The model plays the prompts of a file in torch, a few steps each; every linear layer counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luthier.errors import RequestError
from luthier.export.graph_file import WEIGHTS
from luthier.music.evaluation.checkpoint_player import torch_pipeline
from luthier.music.evaluation.samples import SamplePrompt, SampleSettings, read_prompts
from luthier.music.torch.model import MusicModel
from luthier.progress import SILENT, Display

ENOUGH_PROMPTS = 100  # below, a notice: all styles and voices should be heard
_STEPS = 2
# The denoiser alone: nine tenths of the time go there, and no other component may have 4 bits.
_CALIBRATED = "transformer"


@dataclass(frozen=True)
class Activations:
    """What one matrix was multiplied with."""

    mean_square: NDArray[np.float32]  # (K,), of each input column
    low: float
    high: float

    def as_integers(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Scale and zero point that take the range to 0…255; 0 is exact."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = max(high - low, 1e-12) / 255
        zero = int(np.clip(round(-low / scale), 0, 255))
        return np.array(scale, np.float32), np.array(zero, np.uint8)


class _Counter:
    def __init__(self, width: int) -> None:
        self.squares = torch.zeros(width, dtype=torch.float64)
        self.count, self.low, self.high = 0, 0.0, 0.0

    def see(self, x: torch.Tensor) -> None:
        rows = x.detach().reshape(-1, x.shape[-1])
        self.squares += rows.double().square().sum(0).cpu()
        self.count += len(rows)
        self.low, self.high = min(self.low, float(rows.min())), max(self.high, float(rows.max()))

    def result(self) -> Activations:
        mean = (self.squares / max(1, self.count)).float().numpy()
        return Activations(mean, self.low, self.high)


def calibration_prompts(path: Path | None) -> tuple[SamplePrompt, ...]:
    """The prompts of a calibration file, `{"prompts": [text, …]}`.

    Raises:
        RequestError: no file was given, or it holds no prompts.
    """
    if path is None:
        raise RequestError(
            "this precision is calibrated on prompts and --calibration-data is missing: give a "
            'JSON file such as {"prompts": ["lofi hip hop, chill, piano, 80 bpm"]}.'
        )
    return read_prompts(path, SampleSettings(duration_s=1.0, steps=_STEPS))


def calibrate(
    folder: Path, model: MusicModel, prompts: tuple[SamplePrompt, ...], display: Display = SILENT
) -> dict[str, dict[str, Activations]]:
    """Play `prompts`; what the denoiser's matrices saw, by component and the weight's name.

    Args:
        folder: of the model.
        model: with its weights.
    """
    pipeline = torch_pipeline(folder, model)
    with (
        _counting(model.modules()[_CALIBRATED]) as counters,
        display.task("calibrate", total=len(prompts)) as task,
    ):
        for prompt in prompts:
            pipeline.generate(prompt.request)
            task.advance(note=prompt.name)
    return {_CALIBRATED: {name: counter.result() for name, counter in counters.items()}}


@contextmanager
def _counting(module: nn.Module) -> Iterator[dict[str, _Counter]]:
    counters: dict[str, _Counter] = {}
    hooks = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            counter = counters[f"{WEIGHTS}{name}.weight"] = _Counter(layer.in_features)
            see = partial(_see, counter)
            hooks.append(layer.register_forward_pre_hook(see))
    try:
        yield counters
    finally:
        for hook in hooks:
            hook.remove()


def _see(counter: _Counter, _: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
    counter.see(given[0])
