"""How to train: every setting with its unit, range and default, once. Flags are made from this."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from luthier.errors import RequestError
from luthier.files import read_json
from luthier.music.training.target_modules import layer_values, left_out, pairs_of, translated
from luthier.music.training.task_mix import task_weights

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
MLP = ("gate_proj", "up_proj", "down_proj")

# Adam's step on a weight has the size of the learning rate, whatever the gradient; what it does to
# the output grows with the width (Yang et al., 2022). 1e-4 is customary at ACE-Step's width, 2048.
_RATE_TIMES_WIDTH = 1e-4 * 2048
_FULL_SHARE = 0.1  # all weights at once move the output further than an adapter does
_OTHER_NAMES = {
    **{"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"},
    **{"gradient_clip_val": "gradient_clip", "accumulate_grad_batches": "accumulate"},
}


class TrainConfig(BaseModel):
    """What a training run does. What may change on resuming is in `CHANGEABLE`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    adapter: Literal["lora", "lokr", "full"] = Field(
        default="lora", description="what is trained: LoRA, LoKr (Kronecker) or all weights"
    )
    rank: int = Field(default=16, ge=1, le=1024, description="of the adapter")
    alpha: float = Field(
        # 8/√16 = 2, the scale of the customary rank 256, alpha 32: a rank can be changed by itself.
        default=8.0,
        gt=0,
        description="the adapter's weight: it counts alpha/√rank, without rsLoRA alpha/rank",
    )
    rank_pattern: Annotated[tuple[str, ...], BeforeValidator(pairs_of)] = Field(
        default=(),
        description="layers with a rank of their own, by suffix: cross_attn.to_q:32,mlp.up_proj:8",
    )
    alpha_pattern: Annotated[tuple[str, ...], BeforeValidator(pairs_of)] = Field(
        default=(), description="layers with an alpha of their own, by suffix: cross_attn.to_q:16"
    )
    use_rslora: bool = Field(
        default=True, description="scale by alpha/√rank, so that high ranks still learn"
    )
    use_dora: bool = Field(
        default=False, description="DoRA: train each layer's magnitude beside its direction"
    )
    lokr_factor: int = Field(
        default=-1, ge=-1, description="size of LoKr's smaller matrix; -1: near the square root"
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
    optimizer: Literal["adamw", "adamw8bit"] = Field(
        default="adamw", description="adamw8bit keeps its moments in 8 bits; needs bitsandbytes"
    )
    weight_decay: float = Field(default=0.01, ge=0, description="of AdamW")
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="keep a running mean of the weights, say 0.999; 0: no"
    )
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
    tasks: tuple[str, ...] = Field(
        default=("text2music",),
        min_length=1,
        description="what to train for, with weights: text2music:7,repaint:2,cover:1",
    )
    crop_s: float = Field(
        default=6.0, ge=0.5, le=600, description="length of a crop in seconds; short tracks whole"
    )
    crop_start: Literal["bar", "any", "first"] = Field(
        default="bar", description="where crops begin: bar lines (needs bpm), anywhere, the start"
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="of everything that is random")
    save_every: int = Field(default=250, ge=1, description="steps between checkpoints")
    keep: int = Field(
        default=3, ge=1, description="best checkpoints kept; the newest one is always kept"
    )
    measure: Literal["validation_loss", "loss", "fad_score"] = Field(
        default="validation_loss", description="what makes a checkpoint better; lower is better"
    )
    samples: int = Field(
        default=2, ge=0, le=8, description="prompts to play at each checkpoint, base and adapter"
    )
    sample_s: float = Field(default=6.0, ge=0.5, le=60, description="length of these in seconds")
    tensorboard: bool = Field(default=True, description="write event files for TensorBoard too")
    precision: Literal["auto", "float32", "bf16", "bf16-mixed"] = Field(
        default="auto",
        description="of the arithmetic and of what is frozen; auto: bf16 on CUDA, else float32",
    )
    compile: bool = Field(default=False, description="torch.compile the layers: a slow first step")
    gradient_checkpointing: bool = Field(
        default=False, description="less memory, a third more time: recompute instead of keeping"
    )
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="auto, cpu, cuda, mps"
    )

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        task_weights(self.tasks)
        translated(self.target_modules)
        layer_values(self.rank_pattern, whole=True)
        layer_values(self.alpha_pattern)
        if self.adapter == "full" and (self.rank_pattern or self.alpha_pattern):
            raise ValueError("rank_pattern and alpha_pattern are of adapters, not of all weights")
        if self.use_dora and self.adapter != "lora":
            raise ValueError("DoRA is a kind of LoRA: set adapter to lora, or use_dora to false")
        return self

    @property
    def modules(self) -> tuple[str, ...]:
        """The suffixes of every layer that gets an adapter, in diffusers' names, sorted."""
        return tuple(
            sorted({*translated(self.target_modules)[0], *(MLP if self.train_mlp else ())})
        )

    @property
    def ranks(self) -> dict[str, int]:
        """The ranks of single layers, by suffix in diffusers' names."""
        return {k: int(v) for k, v in layer_values(self.rank_pattern, whole=True).items()}

    @property
    def alphas(self) -> dict[str, float]:
        """The alphas of single layers, by suffix in diffusers' names."""
        return layer_values(self.alpha_pattern)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was asked for and cannot be done as it was said, a sentence each."""
        outside = translated(self.target_modules)[1] if self.adapter != "full" else ()
        return (left_out(outside),) if outside else ()

    @property
    def bf16(self) -> bool | None:
        """Whether to compute in bfloat16; None leaves it to the device."""
        return None if self.precision == "auto" else self.precision != "float32"

    def peak_rate(self, width: int) -> float:
        """The peak learning rate for a denoiser of `width` channels."""
        share = _FULL_SHARE if self.adapter == "full" else 1.0
        return self.learning_rate or share * _RATE_TIMES_WIDTH / width


# A resumed run may be longer, save at other steps or run elsewhere; anything else would be another
# run under the same name.
CHANGEABLE = frozenset(
    {
        *("max_steps", "save_every", "keep", "measure", "device", "gradient_checkpointing"),
        *("samples", "sample_s", "tensorboard", "compile"),
    }
)


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
    return {_OTHER_NAMES.get(name, name): value for name, value in values.items()}


def _sentence(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if not name:  # of settings that do not go together
        return str(error["msg"]).removeprefix("Value error, ") + "."
    if error["type"] == "extra_forbidden":
        known = ", ".join(TrainConfig.model_fields)
        return f"there is no training setting {name!r}: there are {known}."
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name} is {error['input']!r}: {message[0].lower() + message[1:]}."
