"""A request for music ↔ a plan: what to ask the planner for, and the request with its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.music.planner.plan import Plan
from luthier.music.planner.request import PlanRequest, plan_request_from
from luthier.music.request import MusicRequest, request_from


def plan_request_for(request: MusicRequest, rules: Mapping[str, Any]) -> PlanRequest:
    """What to ask the planner for, so that it says what the user left open.

    Args:
        rules: fields of `PlanRequest` that are not in the request: mode, temperature and the like.

    Raises:
        RequestError: a rule is outside its range.
    """
    given = request.model_fields_set
    values = {
        "prompt": request.prompt,
        "lyrics": request.lyrics,
        "instrumental": request.instrumental,
        "bpm": request.bpm,
        "key": request.key,
        "time_signature": request.time_signature,
        "duration_s": request.duration_s,
        "language": request.vocal_language if "vocal_language" in given else None,
        "seed": request.seed,
    }
    return plan_request_from(values | dict(rules))


def completed(request: MusicRequest, plan: Plan, *, lyrics: bool = False) -> MusicRequest:
    """The user's words first, then the plan's.

    Args:
        lyrics: take the plan's lyrics too, where the planner was asked to write some.
    """
    facts, given = plan.facts, request.model_fields_set
    values = {name: getattr(request, name) for name in given}
    planned = {
        "bpm": facts.bpm,
        "key": facts.keyscale,
        "time_signature": facts.timesignature,
        "duration_s": facts.duration,
    }
    values["seed"] = plan.seed  # one seed makes the plan and the sound again
    # The planner's caption is the user's words at greater length.
    values["prompt"] = facts.caption or request.prompt
    if "vocal_language" not in given and facts.language not in (None, "unknown"):
        values["vocal_language"] = facts.language
    values |= {name: value for name, value in planned.items() if values.get(name) is None}
    if lyrics:
        values["lyrics"] = plan.lyrics
    if plan.codes:
        values["audio_codes"] = plan.codes
    return request_from(values)
