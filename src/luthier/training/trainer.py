"""The training loop: LoRA by flow matching, with checkpoints from which a run goes on bit for bit.

Step n depends on the weights before it, the seed and n, on nothing else: on the CPU, with the same
number of threads, a run that was killed and resumed has the loss curve of one that was not, number
for number.
"""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed

from luthier.errors import TrainingError
from luthier.progress import Display, Task
from luthier.training.batches import (
    Constants,
    Example,
    derived_seed,
    training_example,
    validation_examples,
)
from luthier.training.cache import Entry
from luthier.training.checkpoint import (
    Checkpoint,
    Origin,
    State,
    find_checkpoints,
    restore,
    retire,
    save_checkpoint,
)
from luthier.training.config import TrainConfig
from luthier.training.lora import add_adapter
from luthier.training.metrics import Metrics
from luthier.training.objective import flow_loss
from luthier.training.schedule import rate_at
from luthier.training.stopping import StopRequest, stop_requests

_SMOOTHED = 20  # steps that a reported loss is the mean of


@dataclass(frozen=True)
class Material:
    """What is trained on."""

    train: list[Entry]
    validation: list[Entry]
    repeat_count: int  # how often a track is taken in one epoch


@dataclass(frozen=True)
class Outcome:
    """How the loop ended."""

    step: int
    checkpoint: Path
    loss: float | None  # mean of the last steps of this process; None when there were none
    validation_loss: float | None
    stopped_by: int  # the signal, or 0


class Trainer:
    """Trains one adapter; `run` once.

    Args:
        transformer: the denoiser, in float32 on its device; it gets the adapter.
        material: what to train on, and what to validate with.
        constants: of the model.
        config: how.
        origin: what the checkpoints say they were trained from.
        folder: where the checkpoints go.
    """

    def __init__(
        self,
        transformer: Any,
        material: Material,
        constants: Constants,
        config: TrainConfig,
        origin: Origin,
        folder: Path,
    ) -> None:
        self.transformer, self.constants, self.config = transformer, constants, config
        self.material = material
        self.origin, self.folder = origin, folder
        self.device = next(transformer.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(config.seed, "adapter"))
            self.parameters = add_adapter(transformer, config)
        if config.gradient_checkpointing:
            for layer in transformer.layers:
                layer.forward = partial(recomputed, layer.forward, use_reentrant=False)
        transformer.train()
        self.optimizer = torch.optim.AdamW(
            [parameter for _, parameter in self.parameters], weight_decay=config.weight_decay
        )
        self.peak = config.peak_rate(int(transformer.config.hidden_size))
        self.validation = validation_examples(material.validation, constants, config)
        self.step = 0
        self.validation_loss: float | None = None

    @property
    def trained_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for _, parameter in self.parameters)

    def run(self, start: Checkpoint | None, metrics_path: Path, display: Display) -> Outcome:
        """Train from `start` (or the beginning) until the last step or a signal.

        Raises:
            TrainingError: the loss is no longer a number.
        """
        if start is not None:
            restore(start, self.optimizer, self.parameters)
            self.step, self.validation_loss = start.state.step, start.state.validation_loss
        saved = start.folder if start is not None else None
        losses: deque[float] = deque(maxlen=_SMOOTHED)
        with (
            torch.random.fork_rng(devices=[]),
            stop_requests() as stop,
            Metrics(metrics_path, self.step) as metrics,
            display.task("train", self.config.max_steps) as task,
        ):
            task.advance(self.step)
            while self.step < self.config.max_steps and not stop:
                row = self._train_step()
                losses.append(row["loss"])
                saved = self._after_step(row, metrics, stop) or saved
                _show(task, losses, self.validation_loss)
        if saved is None:
            saved = self._save()  # stopped before the first step: still something to resume
        mean = sum(losses) / len(losses) if losses else None
        return Outcome(self.step, saved, mean, self.validation_loss, stop.signal)

    def _after_step(self, row: dict[str, Any], metrics: Metrics, stop: StopRequest) -> Path | None:
        """Write the step's row and, where one is due, a checkpoint: return that."""
        due = self.step % self.config.save_every == 0 or self.step == self.config.max_steps
        if not due and not stop:
            metrics.append(row)
            return None
        self.validation_loss = self.validate()
        if self.validation_loss is not None:
            row["validation_loss"] = self.validation_loss
        metrics.append(row)
        metrics.settle()
        return self._save()

    def _train_step(self) -> dict[str, Any]:
        started = time.perf_counter()
        rate = rate_at(self.step, self.config, self.peak)
        torch.manual_seed(derived_seed(self.config.seed, "dropout", self.step))
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for micro in range(self.config.accumulate):
            example = training_example(
                self.material.train, self.constants, self.config, self.step, micro
            ).to(self.device)
            loss = self._loss(example) / self.config.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        weights = [parameter for _, parameter in self.parameters]
        norm = float(torch.nn.utils.clip_grad_norm_(weights, self.config.gradient_clip))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise TrainingError(self._diverged(rate))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        return {
            "step": self.step,
            "loss": total,
            "learning_rate": rate,
            "gradient_norm": norm,
            "seconds": round(time.perf_counter() - started, 4),
        }

    def validate(self) -> float | None:
        """The loss on the validation tracks, always with the same noise; None without any."""
        if not self.validation:
            return None
        self.transformer.eval()
        total = rows = 0.0
        with torch.no_grad():
            for example in self.validation:
                count = len(example.times)
                total += self._loss(example.to(self.device)).item() * count
                rows += count
        self.transformer.train()
        return total / rows if math.isfinite(total) else None

    def _loss(self, example: Example) -> Tensor:
        with self._arithmetic():
            return flow_loss(self.transformer, example.batch, example.times, example.noise)

    def _arithmetic(self) -> AbstractContextManager[Any]:
        kind = self.device.type
        if self.config.precision == "bf16" or (self.config.precision == "auto" and kind == "cuda"):
            return torch.autocast(kind, torch.bfloat16)
        return nullcontext()

    def _save(self) -> Path:
        seen = self.step * self.config.batch_size * self.config.accumulate
        state = State(
            step=self.step,
            epoch=seen // (len(self.material.train) * self.material.repeat_count),
            config=self.config.model_dump(mode="json"),
            origin=self.origin,
            validation_loss=self.validation_loss,
            threads=torch.get_num_threads(),
        )
        path = save_checkpoint(
            self.folder, state, self.transformer, self.optimizer, self.parameters
        )
        retire(self.folder, self.config.keep)
        return path

    def _diverged(self, rate: float) -> str:
        good = find_checkpoints(self.folder)
        way_back = (
            f"The last good checkpoint is {good[-1]}"
            if good
            else "No checkpoint was saved yet, so the base model or the data may hold bad values"
        )
        return (
            f"the loss of step {self.step + 1} is not a number. {way_back}. Train again under "
            f"another name with a learning rate below {rate:.2g} (say --learning-rate "
            f"{rate / 2:.2g}) and --gradient-clip {self.config.gradient_clip / 4:g}."
        )


def _show(task: Task, losses: deque[float], validation: float | None) -> None:
    note = f"loss {sum(losses) / len(losses):.4f}"
    task.advance(note=note if validation is None else f"{note}, validation {validation:.4f}")
