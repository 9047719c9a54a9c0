"""The bodies and answers of ACE-Step's training routes."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from luthier.models import BUILT_IN
from luthier.server.schemas.envelope import Asked, Shape


class _Training(Asked):
    tensor_dir: str = Field(min_length=1, description="a data set, below a --data-root")
    model: str = Field(BUILT_IN, description="what to train: mini, or a model folder below a root")
    network_weights: str | None = Field(None, description="not offered: see /v1/jobs for resuming")
    gradient_checkpointing: bool = False
    training_seed: int = Field(42, ge=0)
    training_shift: float = Field(3.0, description="without effect: the recipe is the model's")
    save_every_n_epochs: int = Field(5, ge=1, le=100_000)
    train_batch_size: int = Field(1, ge=1, le=1024)
    gradient_accumulation: int = Field(4, ge=1, le=1024)


class LoraTraining(_Training):
    """Train a LoRA."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"tensor_dir": "set", "lora_rank": 16, "train_epochs": 10}]}
    )

    lora_rank: int = Field(64, ge=1, le=256)
    lora_alpha: int = Field(128, ge=1, le=512)
    lora_dropout: float = Field(0.1, ge=0, lt=1)
    learning_rate: float = Field(1e-4, gt=0, le=1)
    train_epochs: int = Field(10, ge=1, le=100_000)
    lora_output_dir: str = Field("./lora_output", description="the run's folder, below a root")
    use_fp8: bool = Field(False, description="taken without effect")


class LokrTraining(_Training):
    """Train a LoKr."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"tensor_dir": "set", "lokr_linear_dim": 64}]}
    )

    lokr_linear_dim: int = Field(64, ge=1, le=256)
    lokr_linear_alpha: int = Field(128, ge=1, le=512)
    lokr_factor: int = Field(-1, ge=-1)
    lokr_decompose_both: bool = False
    lokr_use_tucker: bool = False
    lokr_use_scalar: bool = False
    lokr_weight_decompose: bool = True
    learning_rate: float = Field(0.03, gt=0, le=1)
    train_epochs: int = Field(500, ge=1, le=100_000)
    output_dir: str = Field("./lokr_output", description="the run's folder, below a root")


class TensorsAsked(Asked):
    """Which data set to look at."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tensor_dir": "set"}]})
    tensor_dir: str = Field(min_length=1)


class ExportAsked(Asked):
    """Where the newest adapter of a run goes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"export_path": "adapters/lofi", "lora_output_dir": "lora_output"}]
        }
    )
    export_path: str = Field(min_length=1, description="a new folder below a root")
    lora_output_dir: str = Field(min_length=1, description="the run's folder")


class TrainingStarted(Shape):
    """A training that was accepted."""

    message: str
    job_id: str
    tensor_dir: str
    output_dir: str
    config: dict[str, Any]


class TrainingTold(Shape):
    """What was done."""

    message: str


class Tensors(Shape):
    """A data set."""

    tensor_dir: str
    num_samples: int
    tracks: int
    duration_hours: float | None
    message: str


class Exported(Shape):
    """An adapter that was copied."""

    message: str
    export_path: str


class TrainingStatus(Shape):
    """The training that runs, or the last one."""

    is_training: bool
    should_stop: bool
    current_step: int
    total_steps: int
    current_loss: float | None
    status: str
    config: dict[str, Any]
    tensor_dir: str
    loss_history: list[dict[str, Any]] = Field(description="step and loss, at most 1000")
    tensorboard_url: str | None
    tensorboard_logdir: str | None
    training_log: str
    start_time: float | None
    current_epoch: int
    steps_per_second: float
    estimated_time_remaining: float
    error: str | None
    job_id: str | None
