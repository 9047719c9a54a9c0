"""ACE-Step's training routes, over jobs: they answer with the training that came last."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from luthier.errors import LuthierError, RequestError
from luthier.files import make_folder
from luthier.music.adapters.place import CONFIG_NAME, OTHER_SPELLINGS, WEIGHTS_NAME
from luthier.output_folder import output_folder
from luthier.server.acestep.training_request import form_of, manifest_of, steps_an_epoch
from luthier.server.http.envelope import enveloped
from luthier.server.http.routing import Known, The, asked, described
from luthier.server.jobs.jobs import ALIVE, Job
from luthier.server.jobs.log import loss_history, tail
from luthier.server.jobs.runner import LOG_NAME, SETTINGS
from luthier.server.jobs.service import JobDesk
from luthier.server.routes.jobs import Desk, desk_of
from luthier.server.schemas.trainings import (
    ExportAsked,
    Exported,
    LokrTraining,
    LoraTraining,
    Tensors,
    TensorsAsked,
    TrainingStarted,
    TrainingStatus,
    TrainingTold,
)
from luthier.server.service import Service

router = APIRouter(prefix="/v1/training")
_CHECKPOINT = re.compile(r"epoch=\d+-step=(\d+)_lora")
_LOG_BYTES = 8192
_STARTED = {
    "message": "Training started", "job_id": "0d8a…", "tensor_dir": "set",
    "output_dir": "lora_output", "config": {"rank": 64},
}  # fmt: skip
_STATUS = {
    "is_training": True, "should_stop": False, "current_step": 40, "total_steps": 1000,
    "current_loss": 0.81, "status": "Training", "config": {"rank": 64}, "tensor_dir": "set",
    "loss_history": [{"step": 40, "loss": 0.81}], "tensorboard_url": None,
    "tensorboard_logdir": None, "training_log": "…", "start_time": 1.79e9, "current_epoch": 2,
    "steps_per_second": 1.9, "estimated_time_remaining": 505.0, "error": None, "job_id": "0d8a…",
}  # fmt: skip


@router.post(
    "/start",
    summary="Train a LoRA",
    **described(TrainingStarted, example=_STARTED, body=LoraTraining),
)
async def start(request: Request, service: The) -> dict[str, Any]:
    """Start `luthier train`. One training at a time by this route; `/v1/jobs` takes more."""
    wanted = await asked(request, service, LoraTraining)
    return await run_in_threadpool(_started, service, wanted)


@router.post(
    "/start_lokr",
    summary="Train a LoKr",
    **described(TrainingStarted, example=_STARTED, body=LokrTraining),
)
async def start_lokr(request: Request, service: The) -> dict[str, Any]:
    """Start `luthier train --adapter lokr`."""
    wanted = await asked(request, service, LokrTraining)
    return await run_in_threadpool(_started, service, wanted)


@router.post(
    "/stop",
    dependencies=[Known],
    summary="Stop the training",
    **described(TrainingTold, example={"message": "Stopping training..."}),
)
def stop(desk: Desk) -> dict[str, Any]:
    """It saves a checkpoint and ends."""
    job = desk.jobs.newest("train")
    if job is None or job.state not in ALIVE:
        return enveloped({"message": "No training in progress"})
    desk.jobs.stop(job.id)
    return enveloped({"message": "Stopping training..."})


@router.get(
    "/status",
    dependencies=[Known],
    summary="How the training is doing",
    **described(TrainingStatus, example=_STATUS),
)
def status(desk: Desk) -> dict[str, Any]:
    """The training that runs, or the last one, with its loss."""
    return enveloped(_status(desk, desk.jobs.newest("train")))


@router.post(
    "/load_tensor_info",
    summary="What a data set holds",
    **described(
        Tensors,
        example={
            "tensor_dir": "set", "num_samples": 12, "tracks": 12, "duration_hours": 0.6,
            "message": "12 samples",
        },
        body=TensorsAsked,
    ),
)  # fmt: skip
async def load_tensor_info(request: Request, service: The) -> dict[str, Any]:
    """Look at a data set before training on it."""
    wanted = await asked(request, service, TensorsAsked)
    desk = desk_of(service)
    folder = desk.roots.path(wanted.tensor_dir, "tensor_dir", of="folder")
    manifest = await run_in_threadpool(manifest_of, folder)
    count = int(manifest["train_count"])
    data = {
        "tensor_dir": wanted.tensor_dir,
        "num_samples": count,
        "tracks": int(manifest.get("track_count", count)),
        "duration_hours": manifest.get("total_duration"),
        "message": f"{count} samples",
    }
    return enveloped(data)


@router.post(
    "/export",
    summary="Copy a run's newest adapter",
    **described(
        Exported,
        example={"message": "Exported epoch=9-step=90_lora", "export_path": "adapters/lofi"},
        errors=(507,),
        body=ExportAsked,
    ),
)
async def export(request: Request, service: The) -> dict[str, Any]:
    """In PEFT's layout. Below a --lora-root it can be played at once."""
    wanted = await asked(request, service, ExportAsked)
    return enveloped(await run_in_threadpool(_exported, desk_of(service), wanted))


def _started(service: Service, wanted: LoraTraining | LokrTraining) -> dict[str, Any]:
    desk = desk_of(service)
    newest = desk.jobs.newest("train")
    if newest is not None and newest.state in ALIVE:
        raise RequestError("Training already in progress: stop it, or use /v1/jobs.")
    form = form_of(wanted, desk.roots)
    job = desk.submit("train", form.arguments, form.settings)
    data = {
        "message": "Training started",
        "job_id": job.id,
        "tensor_dir": wanted.tensor_dir,
        "output_dir": str(_run_folder(job)),
        "config": form.settings,
    }
    return enveloped(data, form.notes)


def _status(desk: JobDesk, job: Job | None) -> dict[str, Any]:
    """Upstream's fields; idle without a job."""
    if job is None:
        return {
            **dict.fromkeys(TrainingStatus.model_fields, None),
            **{"is_training": False, "should_stop": False, "current_step": 0, "total_steps": 0},
            **{"status": "Idle", "config": {}, "tensor_dir": "", "loss_history": []},
            **{"training_log": "", "current_epoch": 0, "steps_per_second": 0.0},
            "estimated_time_remaining": 0.0,
        }
    told, folder = desk.describe(job), _run_folder(job)
    config = dict(job.arguments.get(SETTINGS, {}))
    rows = loss_history(folder / "metrics.jsonl")
    step = int(rows[-1]["step"]) if rows else 0
    total = int(config.get("max_steps", 0))
    pace = _steps_per_s(rows)
    events = folder / "tensorboard"
    return {
        "is_training": job.state in ALIVE,
        "should_stop": job.stop_asked is not None,
        "current_step": step,
        "total_steps": total,
        "current_loss": rows[-1].get("loss") if rows else None,
        "status": {"queued": "Waiting", "running": "Training"}.get(job.state, job.state.title()),
        "config": config,
        "tensor_dir": str(job.arguments["dataset"]),
        "loss_history": [{"step": row["step"], "loss": row.get("loss")} for row in rows],
        "tensorboard_url": None,
        "tensorboard_logdir": str(events) if events.is_dir() else None,
        "training_log": tail(desk.runner.place(job) / LOG_NAME, _LOG_BYTES),
        "start_time": job.started,
        "current_epoch": _epoch(job, config, step),
        "steps_per_second": round(pace, 3),
        "estimated_time_remaining": round((total - step) / pace, 1) if pace else 0.0,
        "error": told["error"],
        "job_id": job.id,
    }


def _steps_per_s(rows: list[dict[str, Any]]) -> float:
    """Over the last rows, each of which says how long its step took."""
    seconds = [float(row["seconds"]) for row in rows[-50:] if row.get("seconds")]
    return len(seconds) / sum(seconds) if seconds else 0.0


def _epoch(job: Job, config: dict[str, Any], step: int) -> int:
    """Passes that are over; 0 for a training whose steps were not given in epochs."""
    try:
        dataset = Path(job.arguments["dataset"])
        return step // steps_an_epoch(dataset, config["batch_size"], config["accumulate"])
    except (LuthierError, KeyError):
        return 0


def _run_folder(job: Job) -> Path:
    return Path(job.arguments["logs_dir"]) / str(job.arguments["exp_name"])


def _exported(desk: JobDesk, wanted: ExportAsked) -> dict[str, Any]:
    run = desk.roots.path(wanted.lora_output_dir, "lora_output_dir", of="folder")
    place = desk.roots.path(wanted.export_path, "export_path", of="new")
    if place.exists():
        raise RequestError("export_path is there already: name a new folder.")
    found = [p for p in (run / "checkpoints").glob("epoch=*") if _CHECKPOINT.fullmatch(p.name)]
    if not found:
        raise RequestError("lora_output_dir: there is no checkpoint in that folder yet.")
    newest = max(found, key=lambda p: int(_CHECKPOINT.fullmatch(p.name)[1]))  # type: ignore[index]
    others = [name for name in OTHER_SPELLINGS if (newest / name).exists()]
    with output_folder(place, None) as folder:
        for name in (CONFIG_NAME, WEIGHTS_NAME, *others):
            # Within a run, too, a link may lead out of the roots.
            found_at = desk.roots.path(str(newest / name), "lora_output_dir", of="file")
            make_folder((folder / name).parent)
            shutil.copyfile(found_at, folder / name)
    return {"message": f"Exported {newest.name}", "export_path": wanted.export_path}
