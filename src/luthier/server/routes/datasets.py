"""ACE-Step's data set routes: scan a folder, load, look at samples and change them, save."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from luthier.files import write_json
from luthier.music.templates import INSTRUMENTAL
from luthier.server.acestep.dataset_files import loaded, place_to_save, scanned
from luthier.server.acestep.dataset_rows import is_labelled, row_of, whole_row_of
from luthier.server.acestep.datasets import WorkingSet
from luthier.server.http.envelope import enveloped
from luthier.server.http.routing import Known, The, asked, described
from luthier.server.routes.jobs import Desk, desk_of
from luthier.server.schemas.datasets import (
    DatasetLoadAsked,
    DatasetLoaded,
    DatasetShape,
    SampleChange,
    SampleChanged,
    SampleWhole,
    SaveAsked,
    Saved,
    ScanAsked,
    Scanned,
)
from luthier.server.service import Service

router = APIRouter(prefix="/v1/dataset")
ROW = {
    "index": 0, "filename": "rain.wav", "audio_path": "raw/rain.wav", "duration": 31.5,
    "caption": "calm piano, rain, 72 bpm", "genre": "ambient", "prompt_override": None,
    "lyrics": INSTRUMENTAL, "bpm": 72, "keyscale": "A minor", "timesignature": "4",
    "language": "unknown", "is_instrumental": True, "labeled": True,
}  # fmt: skip
WHOLE = ROW | {"id": "0d8a1f3c", "raw_lyrics": "", "formatted_lyrics": "", "custom_tag": ""}
_SET = {"dataset_name": "calm", "num_samples": 1, "labeled_count": 1, "samples": [ROW]}


@router.post(
    "/scan",
    summary="Make a data set of a folder",
    **described(
        Scanned,
        example={"message": "1 recordings found", "num_samples": 1, "samples": [ROW]},
        errors=(409, 507),
        body=ScanAsked,
    ),
)
async def scan(request: Request, service: The) -> dict[str, Any]:
    """Recordings at any depth. It takes the place of the data set that was worked on."""
    wanted = await asked(request, service, ScanAsked)
    roots = desk_of(service).roots

    def begun() -> dict[str, Any]:
        known, notes = scanned(wanted, roots)
        _begin(service, known)
        rows = _rows(known)
        data = {"message": f"{len(rows)} recordings found", "num_samples": len(rows),
                "samples": rows}  # fmt: skip
        return enveloped(data, notes)

    return await run_in_threadpool(begun)


@router.post(
    "/load",
    summary="Work on a data set file",
    **described(
        DatasetLoaded,
        example=_SET | {"message": "1 samples loaded"},
        errors=(409, 507),
        body=DatasetLoadAsked,
    ),
)
async def load(request: Request, service: The) -> dict[str, Any]:
    """A file of ACE-Step 1.5, or one that was saved here."""
    wanted = await asked(request, service, DatasetLoadAsked)
    roots = desk_of(service).roots

    def begun() -> dict[str, Any]:
        known, notes = loaded(wanted.dataset_path, roots)
        _begin(service, known)
        data = _whole(known) | {"message": f"{len(known.samples)} samples loaded"}
        return enveloped(data, notes)

    return await run_in_threadpool(begun)


@router.get(
    "/samples",
    dependencies=[Known],
    summary="All samples",
    **described(DatasetShape, example=_SET, errors=(400,)),
)
def samples(desk: Desk, service: The) -> dict[str, Any]:
    """Of the data set that is worked on, with the labels that have come so far."""
    return enveloped(_whole(service.datasets.current()))


@router.get(
    "/sample/{sample_idx}",
    dependencies=[Known],
    summary="One sample",
    **described(SampleWhole, example=WHOLE, errors=(400, 404)),
)
def sample(desk: Desk, service: The, sample_idx: int) -> dict[str, Any]:
    """Counted from 0."""
    return enveloped(whole_row_of(sample_idx, service.datasets.current().sample(sample_idx)))


@router.put(
    "/sample/{sample_idx}",
    summary="Change a sample",
    **described(
        SampleChanged,
        example={"message": "Updated: rain.wav", "sample": WHOLE},
        errors=(404, 507),
        body=SampleChange,
    ),
)
async def change(request: Request, service: The, sample_idx: int) -> dict[str, Any]:
    """What is left out stays. Labels that come later do not overwrite what was changed."""
    wanted = await asked(request, service, SampleChange)
    desk_of(service)

    def done() -> dict[str, Any]:
        known = service.datasets.change(lambda known: _changed(known, sample_idx, wanted))
        whole = whole_row_of(sample_idx, known.sample(sample_idx))
        return enveloped({"message": f"Updated: {whole['filename']}", "sample": whole})

    return await run_in_threadpool(done)


@router.post(
    "/save",
    summary="Save the data set",
    **described(
        Saved,
        example={"message": "1 samples saved", "save_path": "raw/calm.json"},
        errors=(507,),
        body=SaveAsked,
    ),
)
async def save(request: Request, service: The) -> dict[str, Any]:
    """As ACE-Step 1.5 reads it. Only a data set file is ever replaced."""
    wanted = await asked(request, service, SaveAsked)
    place = desk_of(service).roots.path(wanted.save_path, "save_path", of="new")

    def done() -> dict[str, Any]:
        known = service.datasets.change(lambda known: _saved(known, wanted, service))
        data = {"message": f"{len(known.samples)} samples saved to {place.name}",
                "save_path": wanted.save_path}  # fmt: skip
        notes = ["genre_ratio has no effect here: prompt_override says it for each sample."]
        return enveloped(data, notes if wanted.genre_ratio else ())

    return await run_in_threadpool(done)


def _begin(service: Service, known: WorkingSet) -> None:
    with service.datasets.turn:
        service.dataset_tasks.require_no_labelling()
        service.datasets.begin(known)


def _rows(known: WorkingSet) -> list[dict[str, Any]]:
    return [row_of(place, sample) for place, sample in enumerate(known.samples)]


def _whole(known: WorkingSet) -> dict[str, Any]:
    return {
        "dataset_name": known.name,
        "num_samples": len(known.samples),
        "labeled_count": sum(map(is_labelled, known.samples)),
        "samples": _rows(known),
    }


def _changed(known: WorkingSet, place: int, wanted: SampleChange) -> WorkingSet:
    said = wanted.model_dump(exclude_unset=True, exclude={"sample_idx", "ai_token"})
    new = {**known.sample(place), **said, "labeled": True}
    if "lyrics" in said:
        new["formatted_lyrics"] = ""
        if "is_instrumental" not in said:
            new["is_instrumental"] = said["lyrics"].strip() in ("", INSTRUMENTAL)
    if said.get("is_instrumental"):
        new |= {"lyrics": INSTRUMENTAL, "language": "unknown"}
    kept = (*known.samples[:place], new, *known.samples[place + 1 :])
    return replace(known, samples=kept)


def _saved(known: WorkingSet, wanted: SaveAsked, service: Service) -> WorkingSet:
    path = place_to_save(wanted.save_path, "save_path", service.desk.roots)
    said = {"custom_tag", "tag_position", "all_instrumental", "genre_ratio"}
    metadata = {
        **known.metadata,
        "name": wanted.dataset_name,
        "num_samples": len(known.samples),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **wanted.model_dump(include=said, exclude_none=True),
    }
    samples = known.samples
    if wanted.custom_tag is not None:
        samples = tuple({**sample, "custom_tag": wanted.custom_tag} for sample in samples)
    new = replace(known, metadata=metadata, samples=samples, save_path=path)
    write_json(path, new.content())
    return new
