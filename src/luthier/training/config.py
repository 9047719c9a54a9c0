"""How to train: every setting with its unit, range and default, once. Flags are made from this."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.errors import RequestError
from luthier.files import read_json

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
MLP = ("gate_proj", "up_proj", "down_proj")

# Adam's step on a weight has the size of the learning rate, whatever the gradient; what it does to
# the output grows with the width (Yang et al., 2022). 1e-4 is customary at ACE-Step's width, 2048.
_RATE_TIMES_WIDTH = 1e-4 * 2048
_PEFT_NAMES = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}


class TrainConfig(BaseModel):
    """What a training run does. What may change on resuming is in `CHANGEABLE`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rank: int = Field(default=16, ge=1, le=1024, description="of the adapter")
    alpha: float = Field(
        # 8/√16 = 2, the scale of the customary rank 256, alpha 32: a rank can be changed by itself.
        default=8.0,
        gt=0,
        description="the adapter's weight: it counts alpha/√rank, without rsLoRA alpha/rank",
    )
    use_rslora: bool = Field(
        default=True, description="scale by alpha/√rank, so that high ranks still learn"
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the adapter's inputs that a step leaves out",
    )
    target_modules: tuple[str, ...] = Field(
        default=ATTENTION, min_length=1, description="linear layers that get an adapter, by suffix"
    )
    train_mlp: bool = Field(
        default=False, description="adapt the perceptrons too: learns more, overfits sooner"
    )
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="peak; None: 1e-4 · 2048 / width of the denoiser"
    )
    weight_decay: float = Field(default=0.01, ge=0, description="of AdamW")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="how the learning rate falls after the warm-up, to 1 %"
    )
    warm_up: int = Field(
        default=100, ge=0, description="steps of rising learning rate, at most a tenth of all"
    )
    gradient_clip: float = Field(
        default=1.0, gt=0, description="largest gradient norm; more is scaled down"
    )
    max_steps: int = Field(default=1000, ge=1, description="optimiser steps in all")
    batch_size: int = Field(default=8, ge=1, description="crops that are computed at once")
    accumulate: int = Field(default=1, ge=1, description="batches in a step")
    crop_s: float = Field(
        default=6.0, ge=0.5, le=600, description="length of a crop in seconds; short tracks whole"
    )
    crop_start: Literal["bar", "any", "first"] = Field(
        default="bar", description="where crops begin: bar lines (needs bpm), anywhere, the start"
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="of everything that is random")
    save_every: int = Field(default=250, ge=1, description="steps between checkpoints")
    keep: int = Field(
        default=3, ge=1, description="newest checkpoints kept; the best one is always kept"
    )
    precision: Literal["auto", "float32", "bf16"] = Field(
        default="auto", description="of the arithmetic; auto: bf16 on CUDA, float32 elsewhere"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="less memory, a third more time: recompute instead of keeping"
    )
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="auto, cpu, cuda, mps"
    )

    @property
    def modules(self) -> tuple[str, ...]:
        """The suffixes of every layer that gets an adapter, sorted."""
        return tuple(sorted({*self.target_modules, *(MLP if self.train_mlp else ())}))

    def peak_rate(self, width: int) -> float:
        """The peak learning rate for a denoiser of `width` channels."""
        return self.learning_rate or _RATE_TIMES_WIDTH / width


# A resumed run may be longer, save at other steps or run elsewhere; anything else would be another
# run under the same name.
CHANGEABLE = frozenset({"max_steps", "save_every", "keep", "device", "gradient_checkpointing"})


def config_from(values: Mapping[str, Any]) -> TrainConfig:
    """Check `values` by field name (or peft's `r`, `lora_alpha`); raise one `RequestError`."""
    try:
        return TrainConfig.model_validate(_renamed(values))
    except ValidationError as error:
        raise RequestError(" ".join(_sentence(e) for e in error.errors())) from error


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a JSON file, as they were given; `config_from` checks them."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise RequestError(f"{path} should hold one JSON object of training settings.")
    return _renamed(values)


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_PEFT_NAMES.get(name, name): value for name, value in values.items()}


def _sentence(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(TrainConfig.model_fields)
        return f"there is no training setting {name!r}: there are {known}."
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name} is {error['input']!r}: {message[0].lower() + message[1:]}."
