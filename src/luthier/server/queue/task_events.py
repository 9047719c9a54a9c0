"""Who follows tasks: one look at the queue a moment for all followers together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from luthier.errors import StorageError
from luthier.server.http.errors import NotFoundError
from luthier.server.queue.queue import Queue
from luthier.server.queue.task import Task

_LOOK_S = 0.2  # without news: of a worker elsewhere, or of what this process did itself
_COST = 10  # looking takes at most one part in so many of the time
_CHECK_S = 15.0


class Changes:
    """Tells followers what changes. The look-out runs only while somebody follows."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._followers: dict[str, set[asyncio.Queue[Task]]] = {}
        self._lookout: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def look(self) -> None:
        """Look soon: a worker has changed something. For the event loop's own thread."""
        self._news.set()

    async def follow(self, identity: str) -> AsyncIterator[Task | None]:
        """The task as it is, and at each change, up to its end; None now and then, as a sign of
        life.

        Raises:
            NotFoundError: there is no such task.
        """
        mail: asyncio.Queue[Task] = asyncio.Queue()
        self._followers.setdefault(identity, set()).add(mail)
        try:
            task = await run_in_threadpool(self._queue.get, identity)
            if self._lookout is None or self._lookout.done():
                self._lookout = asyncio.create_task(self._look(task.change))
            yield task
            while not task.has_ended:
                try:
                    async with asyncio.timeout(_CHECK_S):
                        new = await mail.get()
                except TimeoutError:
                    yield None
                    try:
                        new = await run_in_threadpool(self._queue.get, identity)
                    except NotFoundError:
                        return
                if _news(new) != _news(task):
                    task = new
                    yield task
        finally:
            self._followers[identity].discard(mail)
            if not self._followers[identity]:
                del self._followers[identity]

    async def _look(self, change: int) -> None:
        while self._followers:
            self._news.clear()
            began = time.monotonic()
            with suppress(StorageError):  # the next look may succeed
                tasks = await run_in_threadpool(
                    self._queue.changed_after, change, list(self._followers)
                )
                for task in tasks:
                    change = task.change
                    for mail in self._followers.get(task.id, ()):
                        mail.put_nowait(task)
            took = time.monotonic() - began
            await asyncio.sleep(min(_COST * took, _LOOK_S))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._news.wait()


def _news(task: Task) -> tuple[object, ...]:
    return task.state, task.progress, task.stage, task.cancel_asked, task.attempts
