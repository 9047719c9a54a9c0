"""Routes that answer only once a task has ended."""

from __future__ import annotations

import asyncio
from typing import Any

from luthier.server.http.errors import FailedError, SlowError
from luthier.server.queue.task import Task
from luthier.server.service import Service


async def ended(service: Service, identity: str) -> Task:
    """The task, once it has ended.

    Raises:
        SlowError: it has not within the server's `answer_s`; it goes on.
        FailedError: it was deleted meanwhile.
    """
    longest_s = service.config.answer_s
    try:
        async with asyncio.timeout(longest_s):
            async for task in service.changes.follow(identity):
                if task is not None and task.has_ended:
                    return task
    except TimeoutError:
        raise SlowError(
            f"the task {identity} has not ended within {longest_s:g} s: it goes on, ask for it "
            "with /query_result."
        ) from None
    raise FailedError("the task was deleted before it ended.")


async def result_of(service: Service, identity: str) -> dict[str, Any]:
    """What a task found.

    Raises:
        SlowError: it takes too long.
        FailedError: it has failed, or was cancelled.
    """
    task = await ended(service, identity)
    if task.state != "succeeded" or task.result is None:
        raise FailedError(task.error or "the task was cancelled.")
    return task.result
