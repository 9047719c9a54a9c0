"""What upstream lacks: list, cancel, retry and delete tasks, and follow one as it goes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from luthier.server.http.envelope import enveloped
from luthier.server.http.routing import Known, The, described, events_of, problems
from luthier.server.queue.task import Task
from luthier.server.schemas.tasks import EXAMPLE_TASK, AnyState, Deleted, Page, TaskFacts
from luthier.server.service import Service

router = APIRouter(prefix="/v1/tasks", dependencies=[Known])
_PAGE = {"tasks": [EXAMPLE_TASK], "next": None}
_ID = EXAMPLE_TASK["task_id"]


@router.get("", summary="List tasks, the newest first", **described(Page, example=_PAGE))
def tasks(
    service: The,
    state: AnyState | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> dict[str, Any]:
    """A page of tasks; `next` is the `before` of the page after, or nothing."""
    found = service.queue.page(state, limit=limit, before=before)
    more = found[-1].turn if len(found) == limit else None
    return enveloped({"tasks": [service.answers.task(task) for task in found], "next": more})


@router.get(
    "/{task_id}",
    summary="One task",
    **described(TaskFacts, example=EXAMPLE_TASK, errors=(404,)),
)
def task(service: The, task_id: str) -> dict[str, Any]:
    """How it is doing, with its place in the queue."""
    return _told(service, service.queue.get(task_id))


@router.post(
    "/{task_id}/cancel",
    summary="Cancel a task",
    **described(TaskFacts, example=EXAMPLE_TASK, errors=(404,)),
)
def cancel(service: The, task_id: str) -> dict[str, Any]:
    """A waiting task ends at once, a running one at its next step."""
    return _told(service, service.queue.cancel(task_id))


@router.post(
    "/{task_id}/retry",
    summary="Try a failed or cancelled task again",
    **described(TaskFacts, example=EXAMPLE_TASK, errors=(404, 409)),
)
def retry(service: The, task_id: str) -> dict[str, Any]:
    """It goes to the end of the queue, under the same id."""
    again = service.queue.retry(task_id)
    service.webhooks.rearm(task_id)
    service.wake()
    return _told(service, again)


@router.delete(
    "/{task_id}",
    summary="Delete a task and its files",
    **described(Deleted, example={"task_id": _ID, "deleted": True}, errors=(404, 409)),
)
def delete(service: The, task_id: str) -> dict[str, Any]:
    """A running task is cancelled first, by whoever asks."""
    gone = service.queue.delete(task_id)
    service.inventory.sweep(gone.id)
    return enveloped({"task_id": gone.id, "deleted": True})


@router.get(
    "/{task_id}/events",
    summary="Follow a task (server-sent events)",
    response_class=StreamingResponse,
    responses={
        200: {"content": events_of("TaskFacts")},
        **problems(404),
    },
)
async def events(service: The, task_id: str) -> StreamingResponse:
    """An event at each change, named after the task's state; the stream ends with the task."""
    await run_in_threadpool(service.queue.get, task_id)  # not there: 404, not an empty stream
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(
        _events(service, task_id), media_type="text/event-stream", headers=headers
    )


async def _events(service: Service, identity: str) -> AsyncIterator[str]:
    async for found in service.changes.follow(identity):
        if found is None:
            yield ": still here\n\n"
            continue
        data = json.dumps(service.answers.task(found), ensure_ascii=False)
        yield f"event: {found.state}\ndata: {data}\n\n"


def _told(service: Service, found: Task) -> dict[str, Any]:
    return enveloped(service.answers.task(found, service.queue.position(found)))
