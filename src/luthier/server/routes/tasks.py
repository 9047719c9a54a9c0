"""Tasks in and out, as ACE-Step's clients do it: `/release_task`, `/query_result`, `/v1/audio`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from luthier.errors import RequestError
from luthier.music.task_options import MEDIA_TYPES
from luthier.server.http.auth import missing_key
from luthier.server.http.body import received
from luthier.server.http.envelope import enveloped
from luthier.server.http.paths import result_file
from luthier.server.http.routing import The, body_of, described, problems
from luthier.server.http.strict_json import strict_json
from luthier.server.schemas import release
from luthier.server.schemas.tasks import EXAMPLE_ROW, Queued, Row, RowsAsked

router = APIRouter()
_MOST_IDS = 1000
_MOST_RANGES = 16
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_AUDIO: dict[str, Any] = dict.fromkeys(dict.fromkeys(MEDIA_TYPES.values()), _BINARY)


@router.post(
    "/release_task",
    summary="Queue a task",
    **described(
        Queued,
        example={"task_id": EXAMPLE_ROW["task_id"], "status": "queued", "queue_position": 1},
        errors=(422, 507),
    ),
    openapi_extra=body_of(release.release_schema(), files=release.FILES, examples=release.EXAMPLES),
)
async def release_task(
    request: Request,
    service: The,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 256 letters; the same key and request give the same task again",
        ),
    ] = None,
) -> JSONResponse:
    """Take JSON, a form, or a form with files; answer once the task is safe on the disk.

    A field is looked for at the top, then in `param_obj`, then in the first of `metas`, `meta`,
    `metadata`, `user_metadata`, `userMetadata`. `extra.notes` says what was ignored or put right.
    """
    async with received(request, service.keys, service.limits, service.inventory) as body:
        said = await service.accept_soon(body, key)
    task, position, _ = said.accepted
    data = {"task_id": task.id, "status": task.state, "queue_position": position}
    # An answer of our own making needs no second look by the framework.
    return JSONResponse(enveloped(data, said.notes))


@router.post(
    "/query_result",
    summary="Ask how tasks are doing",
    **described(list[Row], example=[EXAMPLE_ROW], body=RowsAsked),
)
async def query_result(request: Request, service: The) -> dict[str, Any]:
    """A row for each id of `task_id_list`, which is a list or JSON text of one."""
    async with received(request, service.keys, service.limits, service.inventory) as body:
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
@router.get(
    "/v1/audio",
    summary="Download a result",
    response_class=FileResponse,
    responses={
        200: {"description": "The file.", "content": _AUDIO},
        206: {"description": "A part of it, as the header `Range` asked.", "content": _AUDIO},
        416: {"description": "There is no such part.", "content": {"text/plain": {}}},
        **problems(401, 404),
    },
    openapi_extra={"security": [{"key": []}, {}]},
)
async def audio(
    request: Request,
    service: The,
    path: Annotated[str, Query(description="as `file` of a result says it")],
    expires: Annotated[str, Query(description="of a signed link")] = "",
    signature: Annotated[str, Query(description="of a signed link")] = "",
) -> FileResponse:
    """A result by its path, for those with a key or with a signed link. Ranges are served."""
    if not (signature and service.links.holds(path, expires, signature)):
        header = request.headers.get("authorization")
        if not await run_in_threadpool(service.keys.check_header, header):
            raise missing_key()
    if request.headers.get("range", "").count(",") >= _MOST_RANGES:
        raise RequestError(f"a download has at most {_MOST_RANGES} ranges.")
    found = await run_in_threadpool(result_file, path, service.places.results)
    return FileResponse(
        found,
        media_type=MEDIA_TYPES.get(found.suffix.lower(), "audio/mpeg"),
        filename=found.name,
        content_disposition_type="inline",
        headers={"Cache-Control": "private, max-age=3600"},
    )
