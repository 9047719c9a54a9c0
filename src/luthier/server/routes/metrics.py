"""`/metrics`, for a Prometheus server."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from luthier.server.http.routing import The, known, problems

router = APIRouter()
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format.", "content": {_TEXT: {}}},
        **problems(401),
    },
    openapi_extra={"security": [{"key": []}, {}]},
)
async def metrics(request: Request, service: The) -> Response:
    """Requests, tasks, the queue, workers, disk, this process. With keys it needs one, unless the
    server was started with `--open-metrics`.
    """
    if not service.config.open_metrics:
        await known(request, service, None)
    return Response(await run_in_threadpool(service.metrics.text), media_type=_TEXT)
