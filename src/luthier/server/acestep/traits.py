"""What the queue is told of a task: who asks, what kind of work it is, and how much."""

from __future__ import annotations

from luthier.music.request import MusicRequest
from luthier.music.task_options import TaskOptions
from luthier.server.queue.queue import Traits

_UNKNOWN_S = 30.0  # of a piece whose length only its source or its planner says


def traits_of(music: MusicRequest, options: TaskOptions, model: str, client: str) -> Traits:
    """The traits of a piece of music.

    Args:
        music: with the model's defaults filled in.
        model: that plays it.
        client: who asks; see `Keys.client_of`.
    """
    is_open = music.source_audio is not None or options.needs_planner
    seconds = _UNKNOWN_S if is_open or music.duration_s is None else music.duration_s
    return Traits(
        kind=_kind(music, options),
        model=model,
        work=(music.steps or 1) * seconds * music.batch_size,
        priority=options.priority,
        client=client,
    )


def _kind(music: MusicRequest, options: TaskOptions) -> str:
    if options.hears:
        return f"hear {options.hears}"
    # Planning takes time of its own: such tasks are no measure for others.
    return f"{music.task}+plan" if options.needs_planner else music.task
