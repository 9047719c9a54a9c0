"""What the server says of itself: health, models, statistics, capabilities."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from luthier import __version__
from luthier.music.request import request_fields
from luthier.server.envelope import enveloped
from luthier.server.options import FORMATS
from luthier.server.routes.common import Known, The
from luthier.server.service import Service

router = APIRouter()


@router.get("/health", summary="Is it alive")
def health(service: The) -> dict[str, Any]:
    """Liveness, for anybody: no key needed."""
    workers = service.leases.workers()
    loaded = {name for worker in workers for name in worker.loaded}
    default = service.config.worker.default_model
    data = {
        "status": "ok",
        "service": "ACE-Step API",
        "version": "1.0",
        "models_initialized": bool(loaded),
        "llm_initialized": service.has_planner,
        "loaded_model": default if default in loaded else None,
        "loaded_lm_model": _planner(service),
        "server": f"luthier {__version__}",
        "workers": len(workers),
    }
    return enveloped(data)


@router.get("/v1/models", dependencies=[Known], summary="Which models there are")
def models(service: The) -> dict[str, Any]:
    """The models and what each can do; the first one is the default."""
    loaded = {name for worker in service.leases.workers() for name in worker.loaded}
    default, planner = service.config.worker.default_model, _planner(service)
    rows = [
        {
            "name": name,
            "is_default": name == default,
            "is_loaded": name in loaded,
            "supported_task_types": list(spec.tasks),
        }
        for name, spec in service.specs.items()
    ]
    data = {
        "models": rows,
        "default_model": default,
        "lm_models": [{"name": planner, "is_loaded": True}] if planner else [],
        "loaded_lm_model": planner,
        "llm_initialized": service.has_planner,
    }
    return enveloped(data)


@router.get("/v1/stats", dependencies=[Known], summary="How busy it is")
def stats(service: The) -> dict[str, Any]:
    """How many tasks there are in each state, and how long one takes."""
    counts = service.queue.counts()
    data = {
        "jobs": {"total": counts.total} | counts._asdict(),
        "queue_size": counts.queued,
        "queue_maxsize": service.config.queue_limit,
        "avg_job_seconds": round(service.queue.average_s(), 3),
    }
    return enveloped(data)


@router.get("/v1/capabilities", dependencies=[Known], summary="What can be asked for here")
def capabilities(service: The) -> dict[str, Any]:
    """Models, limits, fields, and the speed measured on this machine, so that a client can fit
    itself to the server that it finds.
    """
    config = service.config
    data = {
        "server": f"luthier {__version__}",
        "models": [_model(service, name) for name in service.specs],
        "default_model": config.worker.default_model,
        "planner": _planner(service),
        "audio_formats": list(FORMATS),
        "limits": {
            "queue": config.queue_limit,
            "upload_bytes": config.upload_bytes,
            "upload_files": config.upload_files,
            "body_bytes": config.body_bytes,
            "results_kept_seconds": config.keep_s,
        },
        "features": {
            "cancel": True,
            "retry": True,
            "progress_events": True,
            "idempotency_key": True,
            "thinking": service.has_planner,
        },
        "fields": [
            {"name": field.name, "aliases": list(field.aliases), "help": field.help}
            for field in request_fields()
        ],
    }
    return enveloped(data)


def _planner(service: Service) -> str | None:
    folder = service.config.worker.planner
    return folder.name if folder else None


def _model(service: Service, name: str) -> dict[str, Any]:
    spec = service.specs[name]
    return {
        "name": name,
        "tasks": list(spec.tasks),
        "sample_rate": spec.sample_rate,
        "longest_s": spec.max_frames / spec.frames_per_second,
        "recommended": {
            "inference_steps": spec.default_steps,
            "shift": spec.default_shift,
            "guidance_scale": 1.0 if spec.is_turbo else spec.default_guidance,
        },
        "measured": _speed(service, name),
    }


def _speed(service: Service, name: str) -> dict[str, Any]:
    """Seconds of work for a second of music, over the last tasks of a model; None before any."""
    results = [task.result or {} for task in service.queue.ended()]
    mine = [result for result in results if result.get("model") == name]
    audio_s = sum(piece["duration_s"] for result in mine for piece in result["pieces"])
    seconds = sum(result["seconds"] for result in mine)
    return {
        "tasks": len(mine),
        "seconds_per_audio_second": round(seconds / audio_s, 4) if audio_s else None,
    }
