"""What a run shows while it trains: samples by ear and eye, `report.html`, TensorBoard's events.

All of it is beside the training: nothing here changes what the next step computes.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from luthier.audio.encode import write_audio
from luthier.files import atomic_file, make_folder
from luthier.music.training.previews import Player, Sample
from luthier.progress import SILENT, Display
from luthier.report.figures import spectrogram_png
from luthier.training.config import TrainConfig
from luthier.training.run_folder import EVENTS, REPORT_NAME, SAMPLES
from luthier.training.run_report import RunView, write_run_report

BASE = "base"
_REDRAWN_S = 20.0  # between two drawings of the report; a page that is open reloads as often
_SCALARS = ("loss", "validation_loss", "learning_rate", "gradient_norm", "samples_per_s")


class Monitor:
    """Shows nothing: of all processes but the first, and of runs that nobody watches."""

    def base(self, transformer: Any) -> None:
        """Play the base model, before anything is trained."""

    def begin(self, step: int, metrics: Path) -> None:
        """The loop begins after step `step`; `metrics` is its curve."""

    def after(self, row: dict[str, Any]) -> None:
        """A step is done."""

    def checkpoint(self, step: int, transformer: Any) -> None:
        """A checkpoint was saved: play it."""

    def end(self, step: int, *, stopped: bool) -> None:
        """The loop is over."""

    def halted(self, step: int) -> None:
        """The process ends in the middle of the loop: told by another thread."""


class RunMonitor(Monitor):
    """Writes into the folder of a run.

    Args:
        folder: of the run.
        title: its name.
        config: of the run.
        player: plays the prompts.
        display: is told what is missing.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        player: Player,
        display: Display = SILENT,
    ) -> None:
        self.folder, self.config, self.player = folder, config, player
        self.display = display
        self.metrics = folder
        self._drawn = 0.0
        self._events: Any = None

    def base(self, transformer: Any) -> None:
        """Play the base model unless an earlier part of the run has."""
        wanted = [self._path(BASE, i) for i in range(len(self.player.prompts))]
        if not all(path.is_file() for path in wanted):
            self._write(BASE, self.player.play(transformer))

    def begin(self, step: int, metrics: Path) -> None:
        """Open the event file; what a killed run wrote after `step` is void."""
        self.metrics = metrics
        if not self.config.tensorboard:
            return
        if find_spec("tensorboard") is None:
            self.display.say("no events for TensorBoard: run  pip install tensorboard")
            return
        from torch.utils.tensorboard import SummaryWriter

        self._events = SummaryWriter(self.folder / EVENTS, purge_step=step + 1)

    def after(self, row: dict[str, Any]) -> None:
        """Write the step's events; redraw the report now and then."""
        if self._events is not None:
            for name in _SCALARS:
                if row.get(name) is not None:
                    self._events.add_scalar(name, row[name], row["step"])
        if time.monotonic() - self._drawn > _REDRAWN_S:
            self._draw("running")

    def checkpoint(self, step: int, transformer: Any) -> None:
        """Play the checkpoint with the prompts and the noise of the base model."""
        samples = self.player.play(transformer)
        self._write(f"step={step}", samples)
        if self._events is not None:
            for i, sample in enumerate(samples):
                mono = sample.audio.mean(axis=0)
                self._events.add_audio(f"sample/{i}", mono, step, sample_rate=sample.sample_rate)
        self._draw("running")

    def end(self, step: int, *, stopped: bool) -> None:
        """Draw the report for the last time: it does not reload any more."""
        self._draw("stopped" if stopped else "done")
        if self._events is not None:
            self._events.close()

    def halted(self, step: int) -> None:
        """Draw the report for the last time."""
        self._draw("stopped")

    def _path(self, name: str, index: int, suffix: str = "wav") -> Path:
        return self.folder / SAMPLES / name / f"{index}.{suffix}"

    def _write(self, name: str, samples: list[Sample]) -> None:
        if samples:
            make_folder(self.folder / SAMPLES / name)
        for index, sample in enumerate(samples):
            picture = spectrogram_png(sample.audio, sample.sample_rate)
            with atomic_file(self._path(name, index, "png")) as temporary:
                temporary.write_bytes(picture)
            write_audio(self._path(name, index), sample.audio, sample.sample_rate)

    def _draw(self, state: str) -> None:
        self._drawn = time.monotonic()
        view = RunView(
            title=self.folder.name,
            state=state,
            reload_s=int(_REDRAWN_S) if state == "running" else None,
            max_steps=self.config.max_steps,
            captions=tuple(caption for caption, _ in self.player.prompts),
        )
        write_run_report(self.folder / REPORT_NAME, view, self.metrics, self.folder / SAMPLES)
