"""ACE-Step's routes for the long work on a data set: hear and caption it, build it for training."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from luthier.server.acestep.dataset_jobs import BUILD, require_success
from luthier.server.acestep.datasets import LABEL
from luthier.server.http.envelope import enveloped
from luthier.server.http.errors import Refusal, SlowError
from luthier.server.http.routing import Known, The, asked, described
from luthier.server.jobs.jobs import ALIVE, Job
from luthier.server.routes.datasets import ROW, WHOLE
from luthier.server.routes.jobs import Desk, desk_of
from luthier.server.schemas.datasets import (
    LabelAsked,
    Labelled,
    LabelStatus,
    PreprocessAsked,
    Preprocessed,
    PreprocessStatus,
    TaskBegun,
)
from luthier.server.service import Service

router = APIRouter(prefix="/v1/dataset")
_LOOK_S = 0.2
_LABELLED = {"message": "1 samples labelled", "labeled_count": 1, "samples": [ROW]}
_BUILT = {"message": "12 tracks can be trained on", "output_dir": "set", "num_tensors": 12}
_BEGUN = {"task_id": "0d8a…", "message": "Auto-labeling task started", "total": 12}
_RUNNING = {
    "task_id": "0d8a…", "status": "running", "progress": "samples 3/12 rain.wav", "current": 3,
    "total": 12, "result": None, "error": None,
}  # fmt: skip
_LABELLING = _RUNNING | {
    "save_path": None, "last_updated_index": 2, "last_updated_sample": WHOLE,
}  # fmt: skip
_ALL_DONE = "All samples already labeled"
_NOTHING = "No labeled samples to preprocess"
# Fields that would ask for what is not here → why.
_WITHOUT_EFFECT = {
    "format_lyrics": "lyrics stay as they are",
    "transcribe_lyrics": "there is no speech recognition here",
    "lm_model_path": "recordings are measured, no language model hears them",
    "chunk_size": "recordings are heard one by one",
    "batch_size": "recordings are heard one by one",
}


@router.post(
    "/auto_label",
    summary="Label the samples, and wait",
    **described(Labelled, example=_LABELLED, errors=(409, 500, 504, 507), body=LabelAsked),
)
async def auto_label(request: Request, service: The) -> dict[str, Any]:
    """As `/v1/dataset/auto_label_async`, with the answer at the end."""
    wanted = await asked(request, service, LabelAsked)
    job, notes = await run_in_threadpool(_label, service, wanted)
    if job is not None:
        job = await _ended(service, job)

    def told() -> dict[str, Any]:
        tasks = service.dataset_tasks
        data = tasks.labelled(job, _ALL_DONE)
        return enveloped(data, notes + tasks.notes(job))

    return await run_in_threadpool(told)


@router.post(
    "/auto_label_async",
    summary="Begin to label the samples",
    **described(TaskBegun, example=_BEGUN, errors=(409, 507), body=LabelAsked),
)
async def auto_label_async(request: Request, service: The) -> dict[str, Any]:
    """A job hears each recording: tempo, key, metre. The caption comes from those and the styles
    of `style_mapping.json` beside the recordings.
    """
    wanted = await asked(request, service, LabelAsked)
    job, notes = await run_in_threadpool(_label, service, wanted)
    return enveloped(_begun(job, "Auto-labeling task started", _ALL_DONE), notes)


@router.get(
    "/auto_label_status",
    dependencies=[Known],
    summary="How the last labelling is doing",
    **described(LabelStatus, example=_LABELLING),
)
def label_status(desk: Desk, service: The) -> dict[str, Any]:
    """Idle when there was none yet."""
    return _label_told(service, None)


@router.get(
    "/auto_label_status/{task_id}",
    dependencies=[Known],
    summary="How a labelling is doing",
    **described(LabelStatus, example=_LABELLING, errors=(404,)),
)
def label_status_of(desk: Desk, service: The, task_id: str) -> dict[str, Any]:
    """The id is a job's, too."""
    return _label_told(service, task_id)


@router.post(
    "/preprocess",
    summary="Build the data set, and wait",
    **described(Preprocessed, example=_BUILT, errors=(409, 500, 504, 507), body=PreprocessAsked),
)
async def preprocess(request: Request, service: The) -> dict[str, Any]:
    """As `/v1/dataset/preprocess_async`, with the answer at the end."""
    wanted = await asked(request, service, PreprocessAsked)
    job, notes = await run_in_threadpool(_build, service, wanted)
    if job is None:
        raise Refusal(f"{_NOTHING}: label some first.")
    job = await _ended(service, job)
    data = service.dataset_tasks.built(job)
    return enveloped(data, notes + service.dataset_tasks.notes(job))


@router.post(
    "/preprocess_async",
    summary="Begin to build the data set",
    **described(TaskBegun, example=_BEGUN, errors=(409, 507), body=PreprocessAsked),
)
async def preprocess_async(request: Request, service: The) -> dict[str, Any]:
    """Of the labelled samples, all of which need a licence record that allows training. The
    training makes latents itself, and keeps them.
    """
    wanted = await asked(request, service, PreprocessAsked)
    job, notes = await run_in_threadpool(_build, service, wanted)
    return enveloped(_begun(job, "Preprocessing task started", _NOTHING), notes)


@router.get(
    "/preprocess_status",
    dependencies=[Known],
    summary="How the last building is doing",
    **described(PreprocessStatus, example=_RUNNING),
)
def build_status(desk: Desk, service: The) -> dict[str, Any]:
    """Idle when there was none yet."""
    return _build_told(service, None)


@router.get(
    "/preprocess_status/{task_id}",
    dependencies=[Known],
    summary="How a building is doing",
    **described(PreprocessStatus, example=_RUNNING, errors=(404,)),
)
def build_status_of(desk: Desk, service: The, task_id: str) -> dict[str, Any]:
    """The id is a job's, too."""
    return _build_told(service, task_id)


def _label(service: Service, wanted: LabelAsked) -> tuple[Job | None, list[str]]:
    desk_of(service)
    notes = [
        f"{name} has no effect: {why}."
        for name, why in _WITHOUT_EFFECT.items()
        if name in wanted.model_fields_set and getattr(wanted, name)
    ]
    return service.dataset_tasks.label(wanted), notes


def _build(service: Service, wanted: PreprocessAsked) -> tuple[Job | None, list[str]]:
    desk_of(service)
    notes = ["skip_existing has no effect: a data set is built whole."]
    return service.dataset_tasks.build(wanted), notes if wanted.skip_existing else []


def _begun(job: Job | None, message: str, nothing: str) -> dict[str, Any]:
    if job is None:
        return {"task_id": None, "message": nothing, "total": 0}
    return {"task_id": job.id, "message": message, "total": job.arguments["total"]}


def _label_told(service: Service, identity: str | None) -> dict[str, Any]:
    tasks = service.dataset_tasks
    job = tasks.find(LABEL, identity)
    return enveloped(tasks.label_status(job), tasks.notes(job))


def _build_told(service: Service, identity: str | None) -> dict[str, Any]:
    tasks = service.dataset_tasks
    job = tasks.find(BUILD, identity)
    return enveloped(tasks.build_status(job), tasks.notes(job))


async def _ended(service: Service, job: Job) -> Job:
    """The job once it has ended well.

    Raises:
        Refusal: it ended otherwise.
        SlowError: it takes longer than anybody waits.
    """
    deadline = time.monotonic() + service.config.answer_s
    while job.state in ALIVE:
        if time.monotonic() > deadline:
            raise SlowError(f"it takes longer; it goes on as /v1/jobs/{job.id}.")
        await asyncio.sleep(_LOOK_S)
        job = await run_in_threadpool(service.desk.jobs.get, job.id)
    require_success(job)
    return job
