"""One task → its result: plan, play, write. Runs in a worker process; knows models, not HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.audio.bounded import check_place, check_recording
from luthier.errors import AdapterError, RequestError
from luthier.families import Report
from luthier.music.analysis import heard
from luthier.music.playing.output_file import write_generated
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import MusicRequest, request_from
from luthier.music.task_options import FORMATS, TaskOptions, options_from
from luthier.progress import Display
from luthier.progress import Task as ProgressTask
from luthier.runtime.cancel import Cancel, stop_if_asked
from luthier.runtime.pool import SessionPool
from luthier.server.config import WorkerSetup
from luthier.server.queue.retention import Places
from luthier.server.queue.task import Task

if TYPE_CHECKING:
    from luthier.music.planner.planner import Planner

# Of a display's task: where it begins and ends in a task of the queue, and what people read.
_STAGES = {
    "plan": (0.1, 0.5, "Phase 1: Generating metadata and audio codes..."),
    "denoise": (0.52, 0.79, "Generating music (batch size: {pieces})..."),
    "decode": (0.8, 0.98, "Decoding audio..."),
}


class _Steps:
    def __init__(
        self, report: Report, cancel: Cancel, title: str, total: float, pieces: int
    ) -> None:
        self._report, self._cancel = report, cancel
        self._total, self._done = max(total, 1e-9), 0.0
        self._start, self._end, stage = _STAGES[title]
        self._stage = stage.format(pieces=pieces)
        report(self._start, self._stage)

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        stop_if_asked(self._cancel)  # the planner has no other place to stop
        self._done = min(self._total, self._done + steps)
        share = self._done / self._total
        self._report(round(self._start + share * (self._end - self._start), 3), self._stage)


class TaskDisplay(Display):
    """A display whose viewers read the queue; its steps are where a task can be stopped."""

    def __init__(self, report: Report, cancel: Cancel, pieces: int = 1) -> None:
        super().__init__("none")
        self._report, self._cancel, self._pieces = report, cancel, pieces

    @contextmanager
    def task(self, title: str, total: float) -> Iterator[ProgressTask]:
        """Report `title` until the block ends."""
        yield _Steps(self._report, self._cancel, title, total, self._pieces)
        if title == "denoise":  # short pieces are decoded in one go, without a display
            self._report(*_STAGES["decode"][::2])


class Musician:
    """Does tasks, and keeps what it opened for the next ones."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._uploads = Places(setup.home).uploads
        self._pool = SessionPool(setup.memory_limit)
        self._pipelines: dict[str, MusicPipeline] = {}
        self._planner: Planner | None = None

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the models that are open."""
        return tuple(self._pipelines)

    @property
    def warm(self) -> tuple[str, ...]:
        """The models that play without opening anything: with a limit of memory, the last one."""
        return self.loaded if self._setup.memory_limit is None else self.loaded[-1:]

    def open(self) -> None:
        """Open the default model, so that the first task finds it so."""
        self.pipeline()

    def pipeline(self, name: str | None = None) -> MusicPipeline:
        """A model, opened now when it is not; the default one without a name.

        Raises:
            ModelError: its folder is missing or damaged.
        """
        name = self._name_of(name)
        if name not in self._pipelines:
            self._pipelines[name] = MusicPipeline(
                self._setup.models[name],
                self._setup.threads,
                provider=self._setup.provider,
                pool=self._pool,
            )
        self._pipelines[name] = self._pipelines.pop(name)  # the last one is the latest
        return self._pipelines[name]

    def do(self, task: Task, folder: Path, report: Report, cancel: Cancel) -> dict[str, Any]:
        """Do a task; write its files into `folder`; return its result, JSON-serialisable.

        Raises:
            LuthierError: what is asked for cannot be done, or was cancelled.
        """
        if task.request["kind"] == "plan":
            return self._rewritten(task, TaskDisplay(report, cancel))
        if task.request["kind"] == "open":
            return self._opened(task.request)
        started = time.monotonic()
        options = options_from(task.request["options"])
        request = request_from(task.request["music"])
        pipeline = self.pipeline(options.model)
        request = _adapted(pipeline, request)
        longest_s = pipeline.spec.max_frames / pipeline.spec.frames_per_second
        for recording in (request.source_audio, request.reference_audio):
            if recording is not None:
                if not recording.is_relative_to(self._uploads):  # nobody else writes there
                    check_place(recording)
                check_recording(recording, longest_s)
        display = TaskDisplay(report, cancel, request.batch_size)
        if options.hears:
            planner = self._open_planner() if options.needs_planner else None
            found = heard(pipeline.encoder, planner, request, options, display, report)
            return found | {
                "model": self._name_of(options.model),
                "planner": self._planner_name if planner else None,
                "seconds": round(time.monotonic() - started, 3),
            }
        if options.needs_planner:
            request = self._planned(request, options, display)
        report(0.51, "Preparing inputs...")
        suffix, subtype = FORMATS[options.audio_format]
        pieces = []
        for index, made in enumerate(pipeline.generate_batch(request, display, cancel), 1):
            report(0.99, "Preparing audio data...")
            path = folder / f"{index}{suffix}"
            row = write_generated(path, pipeline, made, stage="serve", subtype=subtype)
            pieces.append(row | {"path": path.name})
        return {
            "pieces": pieces,
            "model": self._name_of(options.model),
            "planner": self._planner_name if options.needs_planner else None,
            "prompt": request.prompt,
            "lyrics": request.sung,
            "facts": _facts(made.request),
            "seconds": round(time.monotonic() - started, 3),
        }

    def _name_of(self, model: str | None) -> str:
        return model if model in self._setup.models else self._setup.default_model

    @property
    def _planner_name(self) -> str | None:
        return self._setup.planner.name if self._setup.planner else None

    def _open_planner(self) -> Planner:
        if self._planner is None:
            from luthier.music.planner.planner import Planner

            if self._setup.planner is None:
                raise RequestError("this server has no planner: start it with --lm-model-path.")
            self._planner = Planner(self._setup.planner, None, self._setup.threads)
        return self._planner

    def _planned(
        self, request: MusicRequest, options: TaskOptions, display: Display
    ) -> MusicRequest:
        """The request as the planner invents, rewrites and completes it, in this order."""
        from luthier.music.planner.completion import completed, plan_request_for

        planner, rules = self._open_planner(), options.planner_rules
        if options.invents:
            words = {"mode": "inspire", "prompt": options.sample_query or "NO USER INPUT"}
            (plan,) = planner.plan(plan_request_for(request, rules | words), display)
            request = completed(request, plan, lyrics=True)
        elif options.use_format:
            (plan,) = planner.plan(plan_request_for(request, rules | {"mode": "format"}), display)
            request = completed(request, plan, lyrics=not request.instrumental)
        if options.thinking:
            (plan,) = planner.plan(plan_request_for(request, rules), display)
            request = completed(request, plan)
        return request

    def _rewritten(self, task: Task, display: Display) -> dict[str, Any]:
        """What the planner writes by itself: `/format_input`, `/v1/create_sample`."""
        from luthier.music.planner.request import plan_request_from

        (plan,) = self._open_planner().plan(plan_request_from(task.request["plan"]), display)
        return {"plan": plan.as_dict()}

    def _opened(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Open what `/v1/init` asks for."""
        self.pipeline(asked["model"])
        if asked["planner"]:
            self._open_planner()
        return {"loaded": list(self.loaded)}


def _adapted(pipeline: MusicPipeline, request: MusicRequest) -> MusicRequest:
    """The request with its adapters checked; an error names them, not where they lie."""
    try:
        return pipeline.adapted(request)
    except AdapterError as error:
        text = str(error)
        for one in request.lora:
            text = text.replace(f"{one.path.parent}/", "")
        raise AdapterError(text) from error


def _facts(request: MusicRequest) -> dict[str, Any]:
    names = {"bpm", "key", "time_signature", "duration_s", "vocal_language"}
    return request.model_dump(mode="json", include=names)
