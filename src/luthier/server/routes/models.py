"""Models: which there are, opening one before it is needed, and reading all of them anew."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from luthier.models import BUILT_IN
from luthier.server.http.envelope import enveloped
from luthier.server.http.errors import FailedError, NotReadyError, Refusal
from luthier.server.http.routing import Known, The, asked, described
from luthier.server.http.wait_for_task import result_of
from luthier.server.schemas.health import Inventory
from luthier.server.schemas.models import InitAsked, Opened, ReinitAsked, Renewed
from luthier.server.service import Service

router = APIRouter()
_MODEL = {
    "name": BUILT_IN,
    "is_default": True,
    "is_loaded": True,
    "supported_task_types": ["text2music", "cover", "repaint"],
}
_INVENTORY = {
    "models": [_MODEL],
    "lm_models": [],
    "loaded_lm_model": None,
    "llm_initialized": False,
}
_LISTED = described(Inventory, example=_INVENTORY | {"default_model": BUILT_IN})


@router.get("/v1/models", dependencies=[Known], summary="Which models there are", **_LISTED)
def models(service: The) -> dict[str, Any]:
    """The models and what each can do."""
    return enveloped(inventory(service))


@router.get("/v1/model_inventory", dependencies=[Known], summary="The same", **_LISTED)
def model_inventory(service: The) -> dict[str, Any]:
    """The models and what each can do, as `/v1/models` says it."""
    return enveloped(inventory(service))


@router.post(
    "/v1/init",
    summary="Open a model before it is needed",
    **described(
        Opened,
        example=_INVENTORY | {"message": "mini is open.", "slot": 1, "loaded_model": BUILT_IN},
        errors=(500, 503, 504),
        body=InitAsked,
    ),
)
async def init(request: Request, service: The) -> dict[str, Any]:
    """Answer once a worker has opened it. In slot 1 (or none) it becomes what plays for requests
    that name no model, until the server starts again.
    """
    wanted = await asked(request, service, InitAsked)
    slot, name = wanted.slot or 1, _model_in(service, wanted)
    with_planner = wanted.init_llm or wanted.lm_model_path is not None
    _check_planner(service, wanted.lm_model_path, needed=with_planner)
    if not await run_in_threadpool(service.leases.workers):
        raise FailedError("Model initialization failed: this server has no workers.")
    accepted = await run_in_threadpool(service.accept_opening, name, planner=with_planner)
    await result_of(service, accepted.task.id)
    if slot == 1:
        service.default_model = name
    data = await run_in_threadpool(inventory, service)
    del data["default_model"]
    opened = {"message": f"{name} is open.", "slot": slot, "loaded_model": name}
    return enveloped(data | opened)


@router.post(
    "/v1/reinitialize",
    summary="Read all models anew",
    **described(
        Renewed,
        example={"message": "Service reinitialized: the workers start anew."},
        errors=(500,),
        body=ReinitAsked,
    ),
)
async def reinitialize(request: Request, service: The) -> dict[str, Any]:
    """Replace the workers, who then open the models as they lie on the disk now. A task that runs
    begins again.
    """
    await asked(request, service, ReinitAsked)
    if not service.renew():
        raise FailedError("Service not initialized")
    return enveloped({"message": "Service reinitialized: the workers start anew."})


def inventory(service: Service) -> dict[str, Any]:
    """Models and planners, and which of them are open."""
    loaded = {name for worker in service.leases.workers() for name in worker.loaded}
    planner = planner_name(service)
    rows = [
        {
            "name": name,
            "is_default": name == service.default_model,
            "is_loaded": name in loaded,
            "supported_task_types": list(spec.tasks),
        }
        for name, spec in service.specs.items()
    ]
    return {
        "models": rows,
        "default_model": service.default_model,
        "lm_models": [{"name": planner, "is_loaded": True}] if planner else [],
        "loaded_lm_model": planner,
        "llm_initialized": service.has_planner,
    }


def planner_name(service: Service) -> str | None:
    """The planner by the name of its folder."""
    folder = service.config.worker.planner
    return folder.name if folder else None


def _model_in(service: Service, wanted: InitAsked) -> str:
    names, slot = list(service.specs), wanted.slot or 1
    if slot > len(names):
        raise Refusal(
            f"slot {slot} is not available: this server was started with {len(names)} --model."
        )
    if wanted.model is None:
        return names[slot - 1] if wanted.slot else service.default_model
    if wanted.model not in service.specs:
        raise Refusal(
            f"there is no model {wanted.model[:64]!r}: this server was started with "
            f"{', '.join(names)}."
        )
    return wanted.model


def _check_planner(service: Service, named: str | None, *, needed: bool) -> None:
    planner = planner_name(service)
    if needed and planner is None:
        raise NotReadyError("this server has no planner: start it with --lm-model-path.")
    if named is not None and PurePath(named).name != planner:
        raise Refusal(f"the planner of this server is {planner}: another needs a start with it.")
