"""What is tried: the axes of an exploration, and its cells in a fixed order.

A task that works on a recording works on the text2music cell of the same tempo, key, length, seed
and model, so those cells are always part of a grid that needs them.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from luthier.audio.keynames import parse_key
from luthier.errors import RequestError
from luthier.music.request import MAX_SEED, TASKS_WITH_SOURCE, MusicRequest, request_from
from luthier.music.request_values import track_names
from luthier.music.templates import TASKS

SUNG = ("vocals", "backing_vocals")
LAYERS = ("lego", "extract", "complete")
_SOURCE_TASK = "text2music"


@dataclass(frozen=True)
class Job:
    """A task, and the tracks that it is about: `lego:bass`, `complete:bass|drums`, `repaint`."""

    task: str
    tracks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As it is written on the command line."""
        return f"{self.task}:{'|'.join(self.tracks)}" if self.tracks else self.task

    @property
    def needs_source(self) -> bool:
        """Whether it works on a recording."""
        return self.task in TASKS_WITH_SOURCE


def job_named(text: str) -> Job:
    """Read `TASK` or `TASK:TRACK|TRACK`; `RequestError` for what is none."""
    task, _, tracks = text.strip().partition(":")
    if task not in TASKS:
        raise RequestError(f"{text!r} is no task: choose among {', '.join(TASKS)}.")
    if tracks and task not in LAYERS:
        raise RequestError(f"{text!r} names tracks: only {', '.join(LAYERS)} are about tracks.")
    try:
        return Job(task, tuple(track_names(tracks.split("|"))) if tracks else ())
    except ValueError as error:
        raise RequestError(f"{text!r}: {error}.") from error


@dataclass(frozen=True)
class Cell:
    """One point of the grid: one request for music, played `batch` times in one go.

    Attributes:
        model: its name.
        job: what to do.
        bpm: tempo, beats a minute.
        key: such as "A minor".
        duration_s: seconds.
        seed: of the first piece.
        steps: of the denoiser; None for the model's own.
        batch: pieces made together.
    """

    model: str
    job: Job
    bpm: int
    key: str
    duration_s: float
    seed: int
    steps: int | None
    batch: int

    @property
    def name(self) -> str:
        """Unique in a grid, and fit for a file's name."""
        parts = [
            *(self.model, self.job.name, f"{self.bpm}bpm", self.key.replace("#", "-sharp")),
            *(f"{self.duration_s:g}s", f"seed{self.seed}"),
            *([f"{self.steps}steps"] if self.steps else []),
            *([f"batch{self.batch}"] if self.batch > 1 else []),
        ]
        return "_".join(re.sub(r"[^\w.]+", "-", part).strip("-.") for part in parts)

    @property
    def source(self) -> Cell | None:
        """The cell whose first piece this one works on."""
        if not self.job.needs_source:
            return None
        return Cell(
            self.model, Job(_SOURCE_TASK), self.bpm, self.key, self.duration_s, self.seed,
            self.steps, self.batch,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the cell's name and its task as it is written."""
        values = asdict(self) | {"name": self.name, "task": self.job.name}
        values.pop("job")
        return values


@dataclass(frozen=True)
class Grid:
    """The axes, and what is the same in all cells.

    Attributes:
        models: names.
        jobs: tasks.
        bpm: tempi, beats a minute.
        keys: such as "A minor".
        durations_s: seconds.
        seeds: of the first piece of a cell.
        steps: of the denoiser; None for the model's own.
        batches: pieces made together.
        prompt: what all of it should sound like.
        lyrics: what vocal layers sing; everything else is instrumental.
        region_s: length of the window that a repaint makes anew, in the middle of a clip.
    """

    models: tuple[str, ...]
    jobs: tuple[Job, ...]
    bpm: tuple[int, ...]
    keys: tuple[str, ...]
    durations_s: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: tuple[int | None, ...]
    batches: tuple[int, ...]
    prompt: str
    lyrics: str
    region_s: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(parse_key(key).name for key in self.keys))
        for name, values in self._axes().items():
            if not values:
                raise RequestError(f"the axis {name} is empty: give at least one value.")
            if len(set(values)) < len(values):
                raise RequestError(f"the axis {name} names a value twice.")
        if any(job.task == "repaint" for job in self.jobs):
            shortest = min(self.durations_s)
            if not 0 < self.region_s < shortest:
                raise RequestError(
                    f"a repaint of {self.region_s:g} s does not fit into a clip of "
                    f"{shortest:g} s: give a shorter --region, or longer --duration."
                )
        for cell in self.cells():
            self.request(cell)

    def _axes(self) -> dict[str, tuple[Any, ...]]:
        return {
            "model": self.models, "task": self.jobs, "bpm": self.bpm, "key": self.keys,
            "duration": self.durations_s, "seed": self.seeds, "steps": self.steps,
            "batch": self.batches,
        }  # fmt: skip

    def cells(self) -> tuple[Cell, ...]:
        """Every cell once: sources before what works on them, then in the order of the axes."""
        asked = [
            Cell(model, job, bpm, key, duration_s, seed, steps, batch)
            for model, steps, batch, job, duration_s, bpm, key, seed in product(
                *(self.models, self.steps, self.batches, self.jobs),
                *(self.durations_s, self.bpm, self.keys, self.seeds),
            )
        ]
        sources = [cell.source for cell in asked if cell.source is not None]
        first = [cell for cell in asked if not cell.job.needs_source]
        return tuple(dict.fromkeys([*first, *sources, *asked]))

    def window(self, cell: Cell) -> tuple[float, float]:
        """The window of a repaint, in the middle of the clip: start and end in seconds."""
        start = (cell.duration_s - self.region_s) / 2
        return start, start + self.region_s

    def request(self, cell: Cell) -> dict[str, Any]:
        """The fields of a request for `cell`, without its source; checked here.

        Raises:
            RequestError: a value is outside its range.
        """
        sings = any(track in SUNG for track in cell.job.tracks)
        values: dict[str, Any] = {
            "prompt": self.prompt,
            "lyrics": self.lyrics if sings else "",
            "instrumental": not sings,
            "bpm": cell.bpm,
            "key": cell.key,
            "time_signature": "4",
            "seed": self._seed(cell),
            "batch_size": cell.batch,
            "task": cell.job.task,
        }
        if cell.job.tracks:
            values["tracks"] = list(cell.job.tracks)
        if cell.steps is not None:
            values["steps"] = cell.steps
        if cell.job.needs_source:
            request_from(values | {"source_audio": "source.flac", "duration_s": cell.duration_s})
        else:  # with a source, its length decides
            values["duration_s"] = cell.duration_s
            request_from(values)
        if cell.job.task == "repaint":
            values["repaint_start_s"], values["repaint_end_s"] = self.window(cell)
        return values

    def _seed(self, cell: Cell) -> int:
        # The noise of its own source would lead what works on it to the same music again.
        return (cell.seed + (cell.batch if cell.job.needs_source else 0)) % (MAX_SEED + 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values; two grids with equal values have equal cells."""
        axes = {name: list(values) for name, values in self._axes().items()}
        return axes | {
            "task": [job.name for job in self.jobs],
            "prompt": self.prompt,
            "lyrics": self.lyrics,
            "region_s": self.region_s,
        }


def crossfade_s() -> float:
    """How far outside its window a repaint may change a clip, seconds: the request's default."""
    return float(MusicRequest.model_fields["repaint_crossfade_s"].default)
