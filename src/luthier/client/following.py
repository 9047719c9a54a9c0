"""Follows a task to its end: by server-sent events, again after each loss, else by asking."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import httpx2

from luthier.client.answers import RemoteTask, task_of
from luthier.client.errors import ServerError
from luthier.client.transport import LOST, Transport

_SILENCE_S = 40.0  # the server gives a sign of life every 15 s
_POLL_S = 0.5
_MOST_LOSSES = 3  # in a row, without an event: something between us holds the stream back


class Follower:
    """Tells how a task changes.

    Args:
        look: asks for a task as it is, with attempts of its own.
    """

    def __init__(self, transport: Transport, look: Callable[[str], RemoteTask]) -> None:
        self._transport, self._look = transport, look

    def follow(self, identity: str, timeout_s: float | None = None) -> Iterator[RemoteTask]:
        """The task as it is, then at each change, the last time when it has ended.

        Raises:
            ServerError: there is no such task, the server is lost for good, or `timeout_s` is over.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        last: RemoteTask | None = None
        for task in self._seen(identity, deadline):
            if task != last:
                last = task
                yield task
            if task.has_ended:
                return
            if deadline is not None and time.monotonic() > deadline:
                raise ServerError(
                    f"the task {identity} is still {task.state} after {timeout_s:g} s. It goes on: "
                    "wait for it again, or cancel it."
                )

    def _seen(self, identity: str, deadline: float | None) -> Iterator[RemoteTask]:
        losses = 0
        while losses < _MOST_LOSSES:
            try:
                for task in self._streamed(identity, deadline):
                    losses = 0
                    yield task
            except (*LOST, httpx2.SSEError, ServerError):
                pass  # whether the task is there at all is for the next look to say
            losses += 1
            yield self._look(identity)
        while True:
            time.sleep(_POLL_S)
            yield self._look(identity)

    def _streamed(self, identity: str, deadline: float | None) -> Iterator[RemoteTask]:
        path = f"/v1/tasks/{quote(identity, safe='')}/events"
        silence = _SILENCE_S
        if deadline is not None:
            silence = min(silence, max(0.1, deadline - time.monotonic()))
        with self._transport.stream(
            path, timeout_s=silence, accept="text/event-stream"
        ) as response:
            for event in httpx2.EventSource(response):
                try:
                    yield task_of(json.loads(event.data))
                except ValueError as error:
                    raise ServerError("the server sent an event that is no JSON.") from error
