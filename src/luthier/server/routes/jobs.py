"""Jobs: luthier's commands for data sets and training, run by the server below its data roots."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from luthier.server.http.envelope import enveloped
from luthier.server.http.routing import Known, The, asked, described
from luthier.server.jobs.service import JobDesk
from luthier.server.schemas.jobs import JobAsked, JobGone, JobLog, JobPage, JobShape

router = APIRouter(prefix="/v1/jobs")
EXAMPLE = {
    "job_id": "0d8a…", "command": "train", "state": "running", "stage": "train", "progress": 0.4,
    "arguments": {"dataset": "set", "logs_dir": "runs", "exp_name": "lofi"},
    "note": "loss 0.81", "eta_s": 420.0, "created": 1.79e9, "started": 1.79e9, "ended": None,
    "stop_asked": False, "code": None, "error": None, "result": None,
}  # fmt: skip


def desk_of(service: The) -> JobDesk:
    """The desk, when this server has jobs.

    Raises:
        ForbiddenError: it has none.
    """
    assert service.desk.roots is not None
    return service.desk


Desk = Annotated[JobDesk, Depends(desk_of)]


@router.post(
    "",
    summary="Start a command",
    **described(JobShape, example=EXAMPLE, body=JobAsked, forms=False),
)
async def start(request: Request, service: The) -> dict[str, Any]:
    """It waits for its turn, runs in a process of its own, and goes on when the server stops."""
    wanted = await asked(request, service, JobAsked)
    desk = desk_of(service)

    def submitted() -> dict[str, Any]:
        job = desk.submit(wanted.command, wanted.arguments, wanted.settings)
        return desk.describe(job)

    return enveloped(await run_in_threadpool(submitted))


@router.get(
    "",
    dependencies=[Known],
    summary="List jobs, the newest first",
    **described(JobPage, example={"jobs": [EXAMPLE], "next": None}),
)
def jobs(
    desk: Desk,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> dict[str, Any]:
    """A page of jobs."""
    found = desk.jobs.page(limit, before)
    more = found[-1].number if len(found) == limit else None
    return enveloped({"jobs": [desk.describe(job) for job in found], "next": more})


@router.get(
    "/{job_id}",
    dependencies=[Known],
    summary="One job",
    **described(JobShape, example=EXAMPLE, errors=(404,)),
)
def job(desk: Desk, job_id: str) -> dict[str, Any]:
    """How it is doing, by what its command says."""
    return enveloped(desk.describe(desk.jobs.get(job_id)))


@router.get(
    "/{job_id}/log",
    dependencies=[Known],
    summary="The end of a job's log",
    **described(JobLog, example={"job_id": "0d8a…", "log": "…"}, errors=(404,)),
)
def log(
    desk: Desk, job_id: str, size: Annotated[int, Query(ge=1, le=2**20)] = 2**14
) -> dict[str, Any]:
    """At most `size` bytes of it, in whole lines."""
    found = desk.jobs.get(job_id)
    return enveloped({"job_id": found.id, "log": desk.log(found, size)})


@router.post(
    "/{job_id}/stop",
    dependencies=[Known],
    summary="Stop a job",
    **described(JobShape, example=EXAMPLE | {"stop_asked": True}, errors=(404,)),
)
def stop(desk: Desk, job_id: str) -> dict[str, Any]:
    """Like Ctrl-C: a training saves and ends. After 30 s it is told more firmly."""
    return enveloped(desk.describe(desk.jobs.stop(job_id)))


@router.post(
    "/{job_id}/resume",
    dependencies=[Known],
    summary="Let a stopped or interrupted job go on",
    **described(JobShape, example=EXAMPLE, errors=(404, 409)),
)
def resume(desk: Desk, job_id: str) -> dict[str, Any]:
    """A training goes on from its newest checkpoint; the others begin again."""
    return enveloped(desk.describe(desk.resume(job_id)))


@router.delete(
    "/{job_id}",
    dependencies=[Known],
    summary="Forget a job that has ended",
    **described(JobGone, example={"job_id": "0d8a…", "deleted": True}, errors=(404, 409)),
)
def delete(desk: Desk, job_id: str) -> dict[str, Any]:
    """Its log goes; what it made stays."""
    return enveloped({"job_id": desk.delete(job_id).id, "deleted": True})
