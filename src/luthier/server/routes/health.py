"""What the server says of itself: health, statistics, capabilities."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from luthier import __version__
from luthier.music.request import request_fields
from luthier.music.task_options import FORMATS
from luthier.music.templates import TRACK_NAMES
from luthier.server.http.envelope import enveloped
from luthier.server.http.routing import Known, The, described
from luthier.server.routes.models import planner_name
from luthier.server.schemas.health import Capabilities, Health, Stats
from luthier.server.service import Service

router = APIRouter()
_TRACK_TASKS = {"lego", "extract", "complete"}


@router.get("/health", summary="Is it alive", **described(Health))
def health(service: The) -> dict[str, Any]:
    """Liveness, for anybody: no key needed."""
    workers = service.leases.workers()
    loaded = sorted({name for worker in workers for name in worker.loaded})
    provider = service.config.worker.provider
    is_gpu = provider not in ("auto", "cpu")
    data = {
        "status": "ok",
        "service": "ACE-Step API",
        "version": "1.0",
        "models_initialized": bool(loaded),
        "llm_initialized": service.has_planner,
        "loaded_model": service.default_model if service.default_model in loaded else None,
        "loaded_lm_model": planner_name(service),
        "gpus": [provider] if is_gpu else [],
        "gpu_mapping": dict.fromkeys(loaded, provider) if is_gpu else {},
        "device_map": dict.fromkeys(loaded, provider),
        "server": f"luthier {__version__}",
        "workers": len(workers),
    }
    return enveloped(data)


@router.get("/v1/stats", dependencies=[Known], summary="How busy it is", **described(Stats))
def stats(service: The) -> dict[str, Any]:
    """How many tasks there are in each state, and how long one takes."""
    counts = service.queue.counts()
    data = {
        "jobs": {"total": counts.total} | counts._asdict(),
        "queue_size": counts.queued,
        "queue_maxsize": service.config.queue_limit,
        "avg_job_seconds": round(service.queue.speeds().mean_s, 3),
        "eta_seconds": service.outlook.all_s,
    }
    return enveloped(data)


@router.get(
    "/v1/capabilities",
    dependencies=[Known],
    summary="What can be asked for here",
    **described(Capabilities),
)
def capabilities(service: The) -> dict[str, Any]:
    """Models, limits, fields, and the speed measured on this machine, so that a client can fit
    itself to the server that it finds.
    """
    config = service.config
    data = {
        "server": f"luthier {__version__}",
        "models": [_model(service, name) for name in service.specs],
        "default_model": service.default_model,
        "planner": planner_name(service),
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
            "lora": service.adapters.are_offered,
            "webhooks": bool(config.webhook_hosts),
            "training": service.desk.is_open,
        },
        "adapters": service.adapters.names(),
        "fields": [
            {"name": field.name, "aliases": list(field.aliases), "help": field.help}
            for field in request_fields()
        ],
    }
    return enveloped(data)


def _model(service: Service, name: str) -> dict[str, Any]:
    spec = service.specs[name]
    return {
        "name": name,
        "tasks": list(spec.tasks),
        "tracks": list(TRACK_NAMES) if _TRACK_TASKS & set(spec.tasks) else [],
        "sample_rate": spec.sample_rate,
        "longest_s": spec.max_frames / spec.frames_per_second,
        "recommended": {
            "inference_steps": spec.default_steps,
            "shift": spec.default_shift,
            "guidance_scale": 1.0 if spec.is_turbo else spec.default_guidance,
        },
        "measured": _speed(service, name),
        "explored": service.config.explored.get(name),
    }


def _speed(service: Service, name: str) -> dict[str, Any]:
    """How fast a model plays here, over its last tasks; None before any."""
    known = service.queue.speeds().known
    mine = {kind: speed for (model, kind), speed in known.items() if model == name}
    # A task at the model's own steps, without the words' share.
    plain = mine.get("text2music")
    steps = service.specs[name].default_steps
    return {
        "tasks": round(sum(speed.tasks for speed in mine.values())),
        "seconds_per_audio_second": round(plain.per_work * steps, 4) if plain else None,
        "by_kind": {
            kind: {
                "fixed_seconds": round(speed.fixed_s, 4),
                "seconds_per_step_second": round(speed.per_work, 6),
            }
            for kind, speed in mine.items()
        },
    }
