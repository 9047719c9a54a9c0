"""Words: `/format_input` lets the planner write better ones, `/create_random_sample` gives some."""

from __future__ import annotations

import asyncio
import json
import secrets
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from luthier.errors import RequestError
from luthier.music.planner.request import plan_request_from
from luthier.server.body import received
from luthier.server.envelope import enveloped
from luthier.server.refusals import NotReadyError, Refusal
from luthier.server.routes.common import The
from luthier.server.service import Service
from luthier.server.strict_json import strict_json
from luthier.server.tasks import Task

router = APIRouter()
_LONGEST_S = 600.0
# name in a plan's request → names in the body's param_obj
_FACTS = {
    "duration_s": ("duration",),
    "bpm": ("bpm",),
    "key": ("key", "key_scale"),
    "time_signature": ("time_signature",),
    "language": ("language",),
}


@router.post("/format_input", summary="Let the planner write caption and lyrics anew")
async def format_input(request: Request, service: The) -> dict[str, Any]:
    """Answer when the planner has; it takes its turn in the queue."""
    async with received(request, service.keys, service.limits, service.places.uploads) as body:
        values = body.values
    if not service.has_planner:
        raise NotReadyError("this server has no planner: start it with --lm-model-path.")
    plan = _plan_values(values)
    accepted = await run_in_threadpool(service.accept_format, plan)
    task = await _ended(service, accepted.task.id)
    if task.state != "succeeded" or task.result is None:
        raise _Failed(task.error or "the planner did not answer.")
    made = task.result["plan"]
    return enveloped(
        {
            "caption": made.get("caption", plan["prompt"]),
            "lyrics": made["lyrics"],
            "bpm": made.get("bpm"),
            "key_scale": made.get("keyscale", ""),
            "time_signature": made.get("timesignature", ""),
            "duration": made.get("duration"),
            "vocal_language": made.get("language", ""),
        }
    )


class _Failed(Refusal):
    status = 500


def _plan_values(values: dict[str, Any]) -> dict[str, Any]:
    given = values.get("param_obj") or {}
    if isinstance(given, str):
        given = strict_json(given, "param_obj")
    if not isinstance(given, dict):
        raise RequestError("param_obj must be an object.")
    plan = {
        "mode": "format",
        "prompt": values.get("prompt") or values.get("caption") or "",
        "lyrics": values.get("lyrics") or "",
        "temperature": 0.85 if values.get("temperature") is None else values["temperature"],
    }
    for name, names in _FACTS.items():
        found = next((given[n] for n in names if given.get(n) not in (None, "")), None)
        if found is not None:
            plan[name] = found
    return plan_request_from(plan).model_dump(mode="json", exclude_unset=True)


async def _ended(service: Service, identity: str) -> Task:
    try:
        async with asyncio.timeout(_LONGEST_S):
            async for task in service.changes.follow(identity):
                if task is not None and task.has_ended:
                    return task
    except TimeoutError:
        await run_in_threadpool(service.queue.cancel, identity)
    raise NotReadyError("the planner did not answer in time: try again later.")


@cache
def _samples() -> dict[str, list[dict[str, Any]]]:
    text = files("luthier.server").joinpath("samples.json").read_text(encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = json.loads(text)
    return found


@router.post("/create_random_sample", summary="An example to start from")
async def create_random_sample(request: Request, service: The) -> dict[str, Any]:
    """A few words (`simple_mode`), or a whole request (any other `sample_type`)."""
    async with received(request, service.keys, service.limits, service.places.uploads) as body:
        kind = body.values.get("sample_type") or "simple_mode"
    return enveloped(secrets.choice(_samples()["simple" if kind == "simple_mode" else "custom"]))
