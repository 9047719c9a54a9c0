"""The training loop: flow matching, with checkpoints from which a run goes on bit for bit.

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
from luthier.music.training.batches import (
    Constants,
    Example,
    derived_seed,
    training_example,
    validation_examples,
)
from luthier.music.training.feature_cache import Entry
from luthier.music.training.objective import flow_loss
from luthier.progress import Display, Task
from luthier.stopping import StopRequest, last_act, stop_requests
from luthier.training.checkpoint import (
    Checkpoint,
    Live,
    Origin,
    State,
    find_checkpoints,
    restore,
    retire,
    save_checkpoint,
)
from luthier.training.config import TrainConfig
from luthier.training.memory import peak_bytes
from luthier.training.metrics import Metrics
from luthier.training.monitor import Monitor
from luthier.training.optimizer import RunningMean, make_optimizer
from luthier.training.processes import Processes
from luthier.training.schedule import rate_at
from luthier.training.weights_io import prepare

_SMOOTHED = 20  # steps that a reported loss is the mean of
_DIVERGED = 4.0  # times the lowest such mean, and
_LOST = 0.5  # of the first such mean: then what was learned is lost. Near zero a mean only wavers


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
        transformer: the denoiser on its device; it gets the adapter.
        material: what to train on, and what to validate with.
        constants: of the model.
        config: how.
        origin: what the checkpoints say they were trained from.
        folder: where the checkpoints go.
        processes: among how many processes the batches of a step are shared out.
    """

    def __init__(
        self,
        transformer: Any,
        material: Material,
        constants: Constants,
        config: TrainConfig,
        origin: Origin,
        folder: Path,
        processes: Processes | None = None,
    ) -> None:
        self.transformer, self.constants, self.config = transformer, constants, config
        self.material = material
        self.origin, self.folder = origin, folder
        self.processes = processes or Processes()
        self.batches = config.accumulate * self.processes.count
        self.device = next(transformer.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(config.seed, "adapter"))
            self.parameters = prepare(transformer, config)
        for layer in transformer.layers:
            if config.compile:
                layer.compile()
            if config.gradient_checkpointing:
                layer.forward = partial(recomputed, layer.forward, use_reentrant=False)
        transformer.train()
        self.optimizer = make_optimizer(self.parameters, config)
        self.mean = RunningMean(self.parameters, config.ema)
        self.peak = config.peak_rate(int(transformer.config.hidden_size))
        self.validation = validation_examples(material.validation, constants, config)
        self.step = 0
        self.validation_loss: float | None = None
        self.losses: deque[float] = deque(maxlen=_SMOOTHED)
        self._first: float | None = None
        self._lowest = math.inf
        self._agreed_to_stop = False

    @property
    def trained_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for _, parameter in self.parameters)

    @property
    def live(self) -> Live:
        """What a checkpoint saves and restores."""
        return Live(self.transformer, self.parameters, self.optimizer, self.mean)

    def run(
        self,
        start: Checkpoint | None,
        metrics_path: Path,
        display: Display,
        monitor: Monitor | None = None,
    ) -> Outcome:
        """Train from `start` (or the beginning) until the last step or a signal.

        Raises:
            TrainingError: the loss is no longer a number, or has left all it was.
        """
        monitor = monitor or Monitor()
        monitor.base(self.transformer)  # a fresh adapter changes nothing: this is the base model
        if start is not None:
            restore(start, self.live)
            self.step, self.validation_loss = start.state.step, start.state.validation_loss
        saved = start.folder if start is not None else None
        with (
            torch.random.fork_rng(devices=[]),
            stop_requests() as stop,
            last_act(lambda: monitor.halted(self.step)),
            Metrics(metrics_path, self.step, writes=self.processes.is_first) as metrics,
            display.task("train", self.config.max_steps) as task,
        ):
            monitor.begin(self.step, metrics_path)
            task.advance(self.step)
            while self.step < self.config.max_steps and not self._stops(stop):
                row = self._train_step(stop)
                self.losses.append(row["loss"])
                self._check_course()
                saved = self._after_step(row, metrics, self._stops(stop)) or saved
                monitor.after(row)
                if self._is_due:
                    stop.may_cut_short(lambda: self._show_checkpoint(monitor))
                _show(task, self.losses, self.validation_loss)
        if saved is None:
            saved = self._save()  # stopped before the first step: still something to resume
        monitor.end(self.step, stopped=bool(stop))
        return Outcome(self.step, saved, self._mean_loss, self.validation_loss, stop.signal)

    def _show_checkpoint(self, monitor: Monitor) -> None:
        with self.mean.in_use():
            monitor.checkpoint(self.step, self.transformer)

    @property
    def _is_due(self) -> bool:
        return self.step % self.config.save_every == 0 or self.step == self.config.max_steps

    @property
    def _mean_loss(self) -> float | None:
        return sum(self.losses) / len(self.losses) if self.losses else None

    def _stops(self, stop: StopRequest) -> bool:
        """Whether the run ends here: of several processes when all know of the signal."""
        return bool(stop) if self.processes.count == 1 else self._agreed_to_stop

    def _after_step(self, row: dict[str, Any], metrics: Metrics, stops: bool) -> Path | None:
        """Write the step's row and, where one is due, a checkpoint: return that."""
        if not self._is_due and not stops:
            metrics.append(row)
            return None
        with self.mean.in_use():
            self.validation_loss = self.validate()
        if self.validation_loss is not None:
            row["validation_loss"] = self.validation_loss
        metrics.append(row)
        metrics.settle()
        return self._save()

    def _train_step(self, stop: StopRequest | None = None) -> dict[str, Any]:
        started = time.perf_counter()
        rate = rate_at(self.step, self.config, self.peak)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for own in range(self.config.accumulate):
            micro = own * self.processes.count + self.processes.index
            torch.manual_seed(derived_seed(self.config.seed, "dropout", self.step, micro))
            example = training_example(
                self.material.train, self.constants, self.config, self.step, micro, self.batches
            ).to(self.device)
            loss = self._loss(example) / self.batches
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        weights = [parameter for _, parameter in self.parameters]
        self.processes.sum_gradients(weights)
        total, signals = self.processes.sum(total, stop.signal if stop else 0)
        if stop is not None and signals:
            stop.signal = stop.signal or int(signals)
            self._agreed_to_stop = True
        norm = float(torch.nn.utils.clip_grad_norm_(weights, self.config.gradient_clip))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise TrainingError(self._diverged("is not a number", rate))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        self.mean.update(self.step)
        seconds = time.perf_counter() - started
        return {
            "step": self.step,
            "loss": total,
            "learning_rate": rate,
            "gradient_norm": norm,
            "seconds": round(seconds, 4),
            "samples_per_s": round(self.config.batch_size * self.batches / seconds, 3),
            "memory_gb": round(peak_bytes(self.device) / 1e9, 3),
        }

    def _check_course(self) -> None:
        """Stop a run whose loss has risen far above what it was."""
        mean = self._mean_loss
        if mean is None or len(self.losses) < _SMOOTHED:
            return
        self._first = self._first or mean
        self._lowest = min(self._lowest, mean)
        if mean > max(_DIVERGED * self._lowest, _LOST * self._first):
            what = f"has risen to {mean:.3g}, {mean / self._lowest:.1f} times its lowest"
            raise TrainingError(self._diverged(what, rate_at(self.step, self.config, self.peak)))

    def validate(self) -> float | None:
        """The loss on the validation tracks, always with the same noise; None without any."""
        if not self.validation:
            return None
        self.transformer.eval()
        total = rows = 0.0
        with torch.no_grad():
            for example in self.validation[self.processes.index :: self.processes.count]:
                count = len(example.times)
                total += self._loss(example.to(self.device)).item() * count
                rows += count
        self.transformer.train()
        total, rows = self.processes.sum(total, rows)
        return total / rows if math.isfinite(total) else None

    def _loss(self, example: Example) -> Tensor:
        with self._arithmetic():
            return flow_loss(self.transformer, example.batch, example.times, example.noise)

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if computes_in_bf16(self.config, self.device):
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _save(self) -> Path:
        seen = self.step * self.config.batch_size * self.batches
        state = State(
            step=self.step,
            epoch=seen // (len(self.material.train) * self.material.repeat_count),
            config=self.config.model_dump(mode="json"),
            origin=self.origin,
            validation_loss=self.validation_loss,
            threads=torch.get_num_threads(),
            loss=self._mean_loss,
            batches=self.batches,
        )
        path = self.folder / state.name
        if self.processes.is_first:
            save_checkpoint(self.folder, state, self.live)
            retire(self.folder, self.config.keep, self.config.measure)
        return path

    def _diverged(self, what: str, rate: float) -> str:
        good = find_checkpoints(self.folder)
        way_back = (
            f"The last good checkpoint is {good[-1]}"
            if good
            else "No checkpoint was saved yet, so the base model or the data may hold bad values"
        )
        return (
            f"the loss of step {self.step + 1} {what}. {way_back}. Train again under "
            f"another name with a learning rate below {rate:.2g} (say --learning-rate "
            f"{rate / 2:.2g}) and --gradient-clip {self.config.gradient_clip / 4:g}."
        )


def computes_in_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether a run computes in bfloat16 there."""
    return device.type == "cuda" if config.bf16 is None else config.bf16


def _show(task: Task, losses: deque[float], validation: float | None) -> None:
    note = f"loss {sum(losses) / len(losses):.4f}"
    task.advance(note=note if validation is None else f"{note}, validation {validation:.4f}")
