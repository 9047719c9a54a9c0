"""ACE-Step's LoRA routes: the adapter that plays where a task names none.

What they set holds for the whole server and survives its restart; a task that was accepted before
keeps what held then. A task's own field `lora` counts more.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from luthier.music.playing.adapters import base_note
from luthier.server.http.envelope import enveloped, refused
from luthier.server.http.routing import Known, The, asked, described
from luthier.server.schemas.envelope import Envelope, Problem
from luthier.server.schemas.lora import (
    LoadAsked,
    LoadedAnswer,
    LoraStatus,
    ScaleAsked,
    Scaled,
    ToggleAsked,
    Toggled,
    Told,
    UnloadAsked,
)
from luthier.server.service import Service

router = APIRouter(prefix="/v1/lora")
_NONE = "no adapter is loaded: load one first (/v1/lora/load)."
_STATUS = {
    "lora_loaded": True,
    "use_lora": True,
    "lora_scale": 0.7,
    "adapter_type": "lora",
    "scales": {"lofi": 0.7},
    "active_adapter": "lofi",
    "adapters": ["lofi"],
    "synthetic_default_mode": False,
}


@router.post(
    "/load",
    summary="Load an adapter",
    **described(
        LoadedAnswer,
        example={"message": "lofi is loaded.", "lora_path": "lofi", "adapter_name": "lofi"},
        body=LoadAsked,
    ),
)
async def load(request: Request, service: The) -> dict[str, Any]:
    """It plays from now on, at the strength that it was trained with. It must fit the default
    model.
    """
    wanted = await asked(request, service, LoadAsked)
    data, note = await run_in_threadpool(_load, service, wanted)
    return enveloped(data, [note] if note else ())


def _load(service: Service, wanted: LoadAsked) -> tuple[dict[str, Any], str | None]:
    folder = service.adapters.folder(wanted.lora_path)
    facts = service.adapters.facts(folder)
    service.adapters.check_fit(facts, service.default_model)
    name = wanted.adapter_name or facts.name
    service.adapters.state.load(name, folder)
    told = {
        "message": f"{name} is loaded: {facts.method} of rank {facts.rank}.",
        "lora_path": wanted.lora_path,
        "adapter_name": name,
    }
    return told, base_note(facts, service.default_model)


@router.post(
    "/unload",
    summary="Unload all adapters",
    **described(Told, example={"message": "1 adapter was unloaded."}, body=UnloadAsked),
)
async def unload(request: Request, service: The) -> dict[str, Any]:
    """The model plays as it is from now on."""
    await asked(request, service, UnloadAsked)
    count = await run_in_threadpool(service.adapters.state.unload)
    told = f"{count} adapters were unloaded." if count != 1 else "1 adapter was unloaded."
    return enveloped({"message": told if count else "no adapter was loaded."})


_TOGGLED = described(
    Toggled, example={"message": "adapters are off.", "use_lora": False}, body=ToggleAsked
) | {"response_model": Envelope[Toggled] | Problem}


@router.post("/toggle", summary="Play with or without the active adapter", **_TOGGLED)
async def toggle(request: Request, service: The) -> Any:
    """As upstream does, answers 200 with the code 400 when there is no adapter to play."""
    wanted = await asked(request, service, ToggleAsked)
    if not await run_in_threadpool(service.adapters.state.use, wanted.use_lora):
        return _refused_with_200()
    state = "on" if wanted.use_lora else "off"
    return enveloped({"message": f"adapters are {state}.", "use_lora": wanted.use_lora})


_SCALED = described(
    Scaled,
    example={"message": "lofi plays at 0.7.", "scale": 0.7, "adapter_name": "lofi"},
    body=ScaleAsked,
) | {"response_model": Envelope[Scaled] | Problem}


@router.post("/scale", summary="Set the strength of an adapter", **_SCALED)
async def scale(request: Request, service: The) -> Any:
    """As upstream does, answers 200 with the code 400 when there is no such adapter."""
    wanted = await asked(request, service, ScaleAsked)
    state = service.adapters.state
    name = await run_in_threadpool(state.scale, wanted.scale, wanted.adapter_name)
    if name is None:
        return _refused_with_200()
    told = f"{name} plays at {wanted.scale:g}."
    return enveloped({"message": told, "scale": wanted.scale, "adapter_name": name})


def _refused_with_200() -> JSONResponse:
    answer = refused(400, _NONE)
    answer.status_code = 200
    return answer


@router.get(
    "/status",
    dependencies=[Known],
    summary="Which adapters are loaded",
    **described(LoraStatus, example=_STATUS),
)
def status(service: The) -> dict[str, Any]:
    """What is loaded, and what plays where a task names none."""
    choice = service.adapters.state.choice
    playing = choice.loaded[choice.active] if choice.active else None
    data = {
        "lora_loaded": bool(choice.loaded),
        "use_lora": choice.in_use,
        "lora_scale": playing.scale if playing else 1.0,
        "adapter_type": "lora" if choice.loaded else None,
        "scales": {name: one.scale for name, one in choice.loaded.items()},
        "active_adapter": choice.active,
        "adapters": list(choice.loaded),
        "synthetic_default_mode": False,
    }
    return enveloped(data)
