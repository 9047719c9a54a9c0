"""Labelling and building the working data set: jobs of the command line, and how they are doing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from luthier.errors import RequestError
from luthier.server.acestep.dataset_files import place_to_save
from luthier.server.acestep.dataset_rows import is_labelled, row_of, whole_row_of
from luthier.server.acestep.datasets import ANSWER_NAME, ASKED_NAME, LABEL, Datasets, WorkingSet
from luthier.server.http.errors import ConflictError, FailedError, NotFoundError, Refusal
from luthier.server.jobs.jobs import ALIVE, Job
from luthier.server.jobs.service import JobDesk
from luthier.server.schemas.datasets import LabelAsked, PreprocessAsked

BUILD = "dataset_prepare"
_KNOWN_CODES = range(1, 4)  # of errors that luthier tells in a sentence
_SOURCES = "sources.json"
_ONLY_LABELLING = ("save_path", "last_updated_index", "last_updated_sample", "result")
_SWITCHES = {"only_unlabeled": "--only-unlabeled", "skip_metas": "--skip-metas"}
_Noted = Callable[[WorkingSet, str], WorkingSet]


class DatasetTasks:
    """Starts the jobs of the working data set and tells of them."""

    def __init__(self, datasets: Datasets, desk: JobDesk) -> None:
        self.datasets, self.desk = datasets, desk
        desk.own[LABEL] = self._label_words
        desk.own[BUILD] = self._build_words

    def require_no_labelling(self) -> None:
        """Raise `ConflictError` while labels are on their way to the present data set."""
        self._require_none(LABEL)

    def label(self, asked: LabelAsked) -> Job | None:
        """Begin to label; None when there is nothing to.

        Raises:
            RequestError: there is no data set, or it may not be saved there.
            ConflictError: labelling is under way.
        """
        known = self.datasets.current()
        named = asked.save_path or (known.save_path and str(known.save_path))
        save = place_to_save(named, "save_path", self.desk.roots) if named else None
        total = sum(not (asked.only_unlabeled and is_labelled(s)) for s in known.samples)
        if not total:
            return None
        arguments = {
            "total": total,
            "only_unlabeled": asked.only_unlabeled,
            "skip_metas": asked.skip_metas,
            "save_path": save and str(save),
            "metadata": str(known.folder),
        }

        def noted(known: WorkingSet, task: str) -> WorkingSet:
            return replace(known, save_path=save, label=task, is_labelling=True, last=None)

        return self._begun(LABEL, arguments, noted)

    def build(self, asked: PreprocessAsked) -> Job | None:
        """Begin to build of the labelled samples; None when there are none.

        Raises:
            RequestError: there is no data set, a path is not allowed, or no licences are there.
            ConflictError: another one is being built.
        """
        known = self.datasets.current()
        total = sum(map(is_labelled, known.samples))
        roots = self.desk.roots
        output = roots.path(asked.output_dir, "output_dir", of="new")
        metadata = roots.path(asked.metadata or str(known.folder), "metadata", of="folder")
        if not total:
            return None
        if not (metadata / _SOURCES).is_file():
            raise RequestError(
                f"no {_SOURCES} lies where the recordings do: it says which of them may be trained "
                "on. Name its folder as `metadata`, or make it with  luthier dataset sources add."
            )
        arguments = {"total": total, "output_dir": str(output), "metadata": str(metadata)}
        return self._begun(BUILD, arguments, lambda known, task: known)

    def find(self, command: str, identity: str | None) -> Job | None:
        """A job of this kind; without an id the newest, if there was one.

        Raises:
            NotFoundError: there is none of that id.
        """
        if identity is None:
            return self.desk.jobs.newest(command)
        job = self.desk.jobs.get(identity)
        if job.command != command:
            raise NotFoundError("there is no such task.")
        return job

    def label_status(self, job: Job | None) -> dict[str, Any]:
        """Upstream's fields of labelling."""
        told = self._status(job)
        if job is None:
            return told | dict.fromkeys(_ONLY_LABELLING)
        known = self.datasets.current()
        is_of_this = known.label == job.arguments["task"]
        last = known.last if is_of_this else None
        return told | {
            "save_path": job.arguments["save_path"],
            "last_updated_index": last,
            "last_updated_sample": None if last is None else whole_row_of(last, known.sample(last)),
            "result": self.labelled(job) if is_of_this and job.state == "succeeded" else None,
        }

    def labelled(self, job: Job | None, nothing: str = "") -> dict[str, Any]:
        """What a labelling that succeeded made; `nothing` is said where there was none."""
        known = self.datasets.current()
        return {
            "message": f"{job.arguments['total']} samples labelled" if job else nothing,
            "labeled_count": sum(map(is_labelled, known.samples)),
            "samples": [row_of(place, sample) for place, sample in enumerate(known.samples)],
        }

    def notes(self, job: Job | None) -> list[str]:
        """What its command had to say of single recordings."""
        found = self.desk.describe(job)["result"] if job and job.state == "succeeded" else None
        return [str(note) for key in ("notes", "warnings") for note in (found or {}).get(key, [])]

    def build_status(self, job: Job | None) -> dict[str, Any]:
        """Upstream's fields of preprocessing."""
        done = job is not None and job.state == "succeeded"
        return self._status(job) | {"result": self.built(job) if job and done else None}

    def built(self, job: Job) -> dict[str, Any]:
        """What a building that succeeded made."""
        made = self.desk.describe(job)["result"] or {}
        count = int(made.get("unique_tracks", job.arguments["total"]))
        message = f"{count} tracks can be trained on"
        place = job.arguments["output_dir"]
        return {"message": message, "output_dir": place, "num_tensors": count}

    def _status(self, job: Job | None) -> dict[str, Any]:
        if job is None:
            return {"task_id": None, "status": "idle", "progress": "", "current": 0, "total": 0,
                    "error": None}  # fmt: skip
        told, total = self.desk.describe(job), int(job.arguments["total"])
        current = round(told["progress"] * total) if job.state != "queued" else 0
        lines = {
            "queued": "Waiting for its turn",
            "running": f"{told['stage'] or 'Starting'} {current}/{total} {told['note']}".strip(),
            "succeeded": f"Done: {total} samples",
        }
        status = {"succeeded": "completed"} | dict.fromkeys(ALIVE, "running")
        error = None if job.state in status else told["error"] or f"it was {job.state}."
        return {
            "task_id": job.id,
            "status": status.get(job.state, "failed"),
            "progress": lines.get(job.state, f"Failed: {error}"),
            "current": current,
            "total": total,
            "error": error,
        }

    def _begun(self, command: str, arguments: Mapping[str, Any], noted: _Noted) -> Job:
        task = f"{command}-{uuid.uuid4()}"

        def begin(known: WorkingSet) -> WorkingSet:
            self._require_none(command)
            content = known.content()
            if command == BUILD:
                content["samples"] = [s for s in known.samples if is_labelled(s)]
            self.datasets.prepare(task, content)
            return noted(known, task)

        with self.datasets.turn:
            self.datasets.change(begin)
            return self.desk.start_own(command, dict(arguments) | {"task": task})

    def _require_none(self, command: str) -> None:
        job = self.desk.jobs.newest(command)
        if job is not None and job.state in ALIVE:
            raise ConflictError(
                f"that is under way already: wait for it, or stop it with /v1/jobs/{job.id}/stop."
            )

    def _label_words(self, arguments: Mapping[str, Any]) -> list[str]:
        place = self._place(arguments)
        metadata = self.desk.roots.path(arguments["metadata"], "metadata", of="folder")
        switches = [flag for name, flag in _SWITCHES.items() if arguments[name]]
        return [
            "dataset",
            "label-json",
            f"--out={place / ANSWER_NAME}",
            f"--metadata={metadata}",
            *switches,
            *self._below(),
            str(place / ASKED_NAME),
        ]

    def _build_words(self, arguments: Mapping[str, Any]) -> list[str]:
        roots, place = self.desk.roots, self._place(arguments)
        output = roots.path(arguments["output_dir"], "output_dir", of="new")
        metadata = roots.path(arguments["metadata"], "metadata", of="folder")
        return [
            "dataset",
            "build-json",
            f"--out={output}",
            f"--metadata={metadata}",
            *self._below(),
            str(place / ASKED_NAME),
        ]

    def _below(self) -> list[str]:
        return [f"--below={folder}" for folder in self.desk.roots.folders]

    def _place(self, arguments: Mapping[str, Any]) -> Path:
        place = self.datasets.place(arguments["task"])
        if not (place / ASKED_NAME).is_file():
            raise ConflictError("what it worked on is gone, a newer one replaced it: start anew.")
        return place


def require_success(job: Job) -> None:
    """Nothing for a job that succeeded; else its sentence.

    Raises:
        Refusal: what it was asked for is not allowed: recordings without a licence, too.
        ConflictError: somebody stopped it.
        FailedError: it failed without a sentence of its own.
    """
    if job.state == "succeeded":
        return
    error = job.error or f"the job was {job.state}."
    if job.state == "stopped":
        raise ConflictError(error)
    raise Refusal(error) if job.code in _KNOWN_CODES else FailedError(error)
