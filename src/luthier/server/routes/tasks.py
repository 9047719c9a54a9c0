"""Tasks in and out, as ACE-Step's clients do it: `/release_task`, `/query_result`, `/v1/audio`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from luthier.errors import RequestError
from luthier.server.auth import missing_key
from luthier.server.body import received
from luthier.server.envelope import enveloped
from luthier.server.paths import result_file
from luthier.server.routes.common import The
from luthier.server.strict_json import strict_json

router = APIRouter()
_MOST_IDS = 1000
_MEDIA = {
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
}


@router.post("/release_task", summary="Queue a task")
async def release_task(request: Request, service: The) -> dict[str, Any]:
    """Take JSON, a form, or a form with files; answer once the task is safe on the disk."""
    key = request.headers.get("idempotency-key")
    async with received(request, service.keys, service.limits, service.places.uploads) as body:
        said = await run_in_threadpool(service.accept, body, key)
    task, position, _ = said.accepted
    data = {"task_id": task.id, "status": task.state, "queue_position": position}
    return enveloped(data, {"notes": list(said.notes)} if said.notes else None)


@router.post("/query_result", summary="Ask how tasks are doing")
async def query_result(request: Request, service: The) -> dict[str, Any]:
    """A row for each id of `task_id_list`, which is a list or JSON text of one."""
    async with received(request, service.keys, service.limits, service.places.uploads) as body:
        ids = _ids(body.values.get("task_id_list"))
    found = await run_in_threadpool(service.queue.find, ids)
    return enveloped([service.answers.row(identity, found.get(identity)) for identity in ids])


def _ids(value: Any) -> list[str]:
    if isinstance(value, str):
        value = strict_json(value, "task_id_list")
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MOST_IDS:
        raise RequestError(f"task_id_list must be a list of at most {_MOST_IDS} ids.")
    return [str(item) for item in value]


@router.head("/v1/audio", include_in_schema=False)
@router.get("/v1/audio", summary="Download a result")
async def audio(
    request: Request, service: The, path: str, expires: str = "", signature: str = ""
) -> FileResponse:
    """A result by its path, for those with a key or with a signed link. Ranges are served."""
    if not (signature and service.links.holds(path, expires, signature)):
        header = request.headers.get("authorization")
        if not await run_in_threadpool(service.keys.check_header, header):
            raise missing_key()
    found = await run_in_threadpool(result_file, path, service.places.results)
    return FileResponse(
        found,
        media_type=_MEDIA.get(found.suffix.lower(), "audio/mpeg"),
        filename=found.name,
        content_disposition_type="inline",
        headers={"Cache-Control": "private, max-age=3600"},
    )
