"""Words: what the planner writes by itself, and examples to start from."""

from __future__ import annotations

import json
import secrets
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from luthier.music.planner.request import plan_request_from
from luthier.music.task_options import truth
from luthier.server.http.envelope import enveloped
from luthier.server.http.routing import The, asked, checked, described
from luthier.server.http.strict_json import strict_json
from luthier.server.http.wait_for_task import result_of
from luthier.server.schemas.prompts import (
    CustomSample,
    FormatAsked,
    FormatFacts,
    RandomAsked,
    Sample,
    SampleAsked,
    SimpleSample,
    Written,
)
from luthier.server.service import Service

router = APIRouter()
_TEMPERATURE = 0.85
_WRITTEN = {
    "caption": "slow lo-fi, felt piano, rain on glass",
    "lyrics": "[Verse]\nThe window fogs, the kettle hums",
    "bpm": 76,
    "duration": 60,
    "vocal_language": "en",
}


@router.post(
    "/format_input",
    summary="Let the planner write caption and lyrics anew",
    **described(
        Written,
        example=_WRITTEN | {"key_scale": "D minor", "time_signature": "4"},
        errors=(500, 503, 504),
        body=FormatAsked,
    ),
)
async def format_input(request: Request, service: The) -> dict[str, Any]:
    """Answer when the planner has; it takes its turn in the queue."""
    wanted = await asked(request, service, FormatAsked)
    facts = _facts(wanted.param_obj)
    prompt = wanted.prompt or wanted.caption or ""
    plan = {
        "mode": "format",
        "prompt": prompt,
        "lyrics": wanted.lyrics or "",
        "temperature": _temperature(wanted.temperature),
        "duration_s": facts.duration,
        "bpm": facts.bpm,
        "key": facts.key or facts.key_scale,
        "time_signature": facts.time_signature,
        "language": facts.language,
    }
    made = await _planned(service, plan)
    return enveloped(
        {
            "caption": made.get("caption", prompt),
            "lyrics": made["lyrics"],
            "bpm": made.get("bpm"),
            "key_scale": made.get("keyscale", ""),
            "time_signature": made.get("timesignature", ""),
            "duration": made.get("duration"),
            "vocal_language": made.get("language", ""),
        }
    )


@router.post(
    "/v1/create_sample",
    summary="Let the planner invent a piece from a few words",
    **described(
        Sample,
        example=_WRITTEN | {"keyscale": "D minor", "timesignature": "4"},
        errors=(500, 503, 504),
        body=SampleAsked,
    ),
)
async def create_sample(request: Request, service: The) -> dict[str, Any]:
    """The simple mode without the music: caption, lyrics and facts to look at and change first."""
    wanted = await asked(request, service, SampleAsked)
    words = wanted.query or wanted.sample_query or wanted.description or ""
    language = wanted.vocal_language or "unknown"
    plan = {
        "mode": "inspire",
        "prompt": words.strip() or "NO USER INPUT",
        "instrumental": truth(wanted.instrumental),
        "temperature": _temperature(wanted.temperature),
        "language": None if language == "unknown" else language,
    }
    made = await _planned(service, plan)
    return enveloped(
        {
            "caption": made.get("caption", ""),
            "lyrics": made["lyrics"],
            "bpm": made.get("bpm"),
            "keyscale": made.get("keyscale", ""),
            "duration": made.get("duration"),
            "timesignature": made.get("timesignature", ""),
            "vocal_language": made.get("language", language),
        }
    )


@router.post(
    "/create_random_sample",
    summary="An example to start from",
    **described(
        SimpleSample | CustomSample,
        example={"description": "a slow waltz", "instrumental": True, "vocal_language": "en"},
        body=RandomAsked,
    ),
)
async def create_random_sample(request: Request, service: The) -> dict[str, Any]:
    """A few words (`simple_mode`), or a whole request (any other `sample_type`)."""
    kind = (await asked(request, service, RandomAsked)).sample_type or "simple_mode"
    if kind == "simple_mode":
        return enveloped(secrets.choice(_samples()["simple"]))
    spec = service.specs[service.default_model]
    sample = secrets.choice(_samples()["custom"])
    # What is drawn can be sent as it is: no longer than the model plays.
    longest_s = int(spec.max_frames / spec.frames_per_second)
    return enveloped(sample | {"duration": min(sample["duration"], longest_s)})


def _facts(said: FormatFacts | str | None) -> FormatFacts:
    if isinstance(said, FormatFacts):
        return said
    return checked(strict_json(said, "param_obj") if said else {}, FormatFacts)


async def _planned(service: Service, values: dict[str, Any]) -> dict[str, Any]:
    plan = plan_request_from({name: v for name, v in values.items() if v not in (None, "")})
    accepted = await run_in_threadpool(service.accept_plan, plan)
    result = await result_of(service, accepted.task.id)
    made: dict[str, Any] = result["plan"]
    return made


def _temperature(said: float | str | None) -> float | str:
    return _TEMPERATURE if said in (None, "") else said


@cache
def _samples() -> dict[str, list[dict[str, Any]]]:
    text = files("luthier.server").joinpath("samples.json").read_text(encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = json.loads(text)
    return found
