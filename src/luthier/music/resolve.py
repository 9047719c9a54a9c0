"""A request as one model can do it: its defaults filled in, and what it cannot do refused."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.errors import RequestError
from luthier.music.request import MusicRequest
from luthier.music.spec import ModelSpec

_DEFAULT_DURATION_S = 30.0
_TASKS_WITH_WINDOW = ("repaint", "lego")


@dataclass(frozen=True)
class Room:
    """Where the source lies in the result, seconds: what a repaint adds before and behind it."""

    before_s: float = 0.0
    behind_s: float = 0.0


def room_around(request: MusicRequest, source_s: float) -> Room:
    """How much a repaint's windows reach beyond a source of `source_s` seconds."""
    if request.task != "repaint":
        return Room()
    starts = [start for start, _ in request.windows]
    ends = [end for _, end in request.windows if end is not None]
    return Room(max(0.0, -min(starts)), max([0.0, *(end - source_s for end in ends)]))


def resolve(request: MusicRequest, spec: ModelSpec, source_s: float | None = None) -> MusicRequest:
    """Fill what the model decides (steps, shift, guidance, duration) and refuse what it cannot do.

    Args:
        source_s: length of the source recording in seconds, where there is one.

    Raises:
        RequestError: the task, the length or a window is not possible with this model.
    """
    task = "cover" if request.audio_codes else request.task
    if task not in spec.tasks:
        raise RequestError(
            f"the model {spec.name} was not trained for the task {task}: "
            f"it does {', '.join(spec.tasks)}. Choose one of these, or another model."
        )
    duration = _duration(request, spec, source_s)
    if source_s is not None:
        _check_windows(request, source_s)
    asked = None if spec.is_turbo else request.guidance_scale
    return request.model_copy(
        update={
            "task": task,
            "duration_s": float(duration),
            "steps": request.steps or spec.default_steps,
            "shift": request.shift or spec.default_shift,
            "guidance_scale": asked or spec.guidance_of(task),
            "guidance_method": request.guidance_method or spec.guidance_method,
        }
    )


def _duration(request: MusicRequest, spec: ModelSpec, source_s: float | None) -> float:
    longest = spec.max_frames / spec.frames_per_second
    if request.task == "repaint" and source_s is not None:
        room = room_around(request, source_s)
        duration = room.before_s + source_s + room.behind_s
        asked = request.duration_s
        if asked is not None and abs(asked - duration) * spec.sample_rate >= 1:
            raise RequestError(
                f"duration_s is {asked:g}, but the result of this repaint is {duration:g} seconds "
                "long, as its source and windows are: leave duration_s out, or move a window "
                "beyond the source to make it longer."
            )
    elif request.audio_codes:
        codes_s = len(request.audio_codes) * spec.pool_window / spec.frames_per_second
        duration = request.duration_s or codes_s
    else:
        duration = request.duration_s or source_s or min(_DEFAULT_DURATION_S, longest)
    if duration > longest:
        raise RequestError(
            f"duration_s is {duration:g}: the model {spec.name} makes at most {longest:g} seconds."
        )
    return duration


def _check_windows(request: MusicRequest, source_s: float) -> None:
    if request.task not in _TASKS_WITH_WINDOW:
        return
    for start, end in request.windows:
        if start >= source_s and not (request.task == "repaint" and end and start == source_s):
            raise RequestError(
                f"the repaint window starts at {start:g} s, but the recording is "
                f"{source_s:g} s long: start before its end."
            )
        if request.task == "lego" and (start < 0 or (end or 0.0) > source_s):
            raise RequestError(
                f"the window {start:g} to {end or source_s:g} s reaches beyond the recording of "
                f"{source_s:g} s: only the task repaint makes a recording longer."
            )
