"""The working data set of ACE-Step's data set routes: one file in the server's home.

What is loaded, edited and labelled survives a restart. Edits take turns under a lock; labels flow
in from a job and never overwrite what a person changed meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError, RequestError
from luthier.files import read_json, write_json
from luthier.server.http.errors import NotFoundError
from luthier.server.jobs.jobs import ALIVE, Job, Jobs
from luthier.server.queue.folders import written

_LOG = logging.getLogger("luthier.server.acestep.datasets")
LABEL = "dataset_label"
WORKING_NAME = "working.json"
# In a task's folder: what its command reads, and what it writes.
ASKED_NAME, ANSWER_NAME = "asked.json", "answer.json"
_FILES = (*written(ASKED_NAME, ANSWER_NAME), ".metadata.lock")
_NOTHING = object()

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class WorkingSet:
    """A data set being worked on, in the terms of ACE-Step 1.5's file.

    Attributes:
        metadata: what the file says of all samples.
        samples: one a recording; never changed in place.
        rest: what else stands in the file.
        folder: the folder that was scanned, or the loaded file's: its licences lie there.
        save_path: the file that it was loaded from or saved to.
        label: the task that its labels come from.
        is_labelling: more of them may come.
        last: the place of the sample that was labelled last.
    """

    metadata: Mapping[str, Any]
    samples: tuple[Sample, ...]
    rest: Mapping[str, Any]
    folder: Path
    save_path: Path | None = None
    label: str | None = None
    is_labelling: bool = False
    last: int | None = None

    @property
    def name(self) -> str:
        """Of the data set."""
        return str(self.metadata.get("name") or "")

    def sample(self, place: int) -> Sample:
        """One sample; `NotFoundError` beyond the last."""
        if not 0 <= place < len(self.samples):
            raise NotFoundError(f"Sample index {place} out of range: there are {len(self.samples)}")
        return self.samples[place]

    def content(self) -> dict[str, Any]:
        """The file as ACE-Step 1.5 reads it."""
        return {"metadata": dict(self.metadata), "samples": list(self.samples), **self.rest}

    def to_json(self) -> dict[str, Any]:
        """What is kept of it."""
        return {
            "folder": str(self.folder),
            "save_path": self.save_path and str(self.save_path),
            "label": self.label,
            "is_labelling": self.is_labelling,
            "last": self.last,
            "data": self.content(),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> WorkingSet:
        """What `to_json` gave."""
        rest = dict(kept["data"])
        metadata, samples = rest.pop("metadata"), tuple(rest.pop("samples"))
        path = kept["save_path"] and Path(kept["save_path"])
        task = (kept["label"], kept["is_labelling"], kept["last"])
        return cls(metadata, samples, rest, Path(kept["folder"]), path, *task)


class Datasets:
    """Keeps the working data set.

    Args:
        folder: in the server's home; made when something is kept.
        jobs: where the labelling is.
    """

    def __init__(self, folder: Path, jobs: Jobs) -> None:
        self.folder, self._jobs = folder, jobs
        self.turn = threading.RLock()  # held over several steps that belong together
        self._known: WorkingSet | None = None
        self._seen = 0  # when the labels were last read, as the file's time

    def current(self) -> WorkingSet:
        """The working data set, with the labels that have come.

        Raises:
            RequestError: there is none.
        """
        with self.turn:
            return self._settled()

    def change(self, how: Callable[[WorkingSet], WorkingSet]) -> WorkingSet:
        """Put what `how` makes of it in its place; nothing changes when `how` raises."""
        with self.turn:
            return self._keep(how(self._settled()))

    def begin(self, new: WorkingSet) -> WorkingSet:
        """Work on another data set from now on."""
        with self.turn:
            return self._keep(new)

    def place(self, task: str) -> Path:
        """The folder of a task."""
        return self.folder / task

    def prepare(self, task: str, content: Mapping[str, Any]) -> None:
        """Make a task's folder, which replaces those of its kind before it."""
        kind = task.partition("-")[0]  # what follows is a number of its own
        self._jobs.inventory.replace("dataset", task, kind, _FILES)
        write_json(self.place(task) / ASKED_NAME, dict(content))

    def _keep(self, new: WorkingSet) -> WorkingSet:
        write_json(self.folder / WORKING_NAME, new.to_json())
        self._known = new
        return new

    def _settled(self) -> WorkingSet:
        if self._known is None:
            if not (self.folder / WORKING_NAME).is_file():
                raise RequestError("No dataset loaded: scan a folder or load a file first.")
            try:
                self._known = WorkingSet.from_json(read_json(self.folder / WORKING_NAME))
            except (LuthierError, AttributeError, KeyError, TypeError, ValueError):
                raise RequestError(
                    "the working data set cannot be read any more: scan or load it again."
                ) from None
        return self._labelled(self._known) if self._known.is_labelling else self._known

    def _labelled(self, known: WorkingSet) -> WorkingSet:
        assert known.label is not None
        job = self._label_job(known.label)
        is_alive = job is not None and job.state in ALIVE  # asked before the labels are read
        known = self._with_labels(known, self.place(known.label))
        if is_alive or (job is not None and job.state != "succeeded"):
            return known  # it goes on, or may be resumed
        if job is not None:
            self._save(known)
        return self._keep(replace(known, is_labelling=False))

    def _label_job(self, task: str) -> Job | None:
        job = self._jobs.newest(LABEL)
        return job if job is not None and job.arguments.get("task") == task else None

    def _with_labels(self, known: WorkingSet, place: Path) -> WorkingSet:
        """Take over what is new in the answer, and note it as asked: it comes only once."""
        try:
            written = (place / ANSWER_NAME).stat().st_mtime_ns
            if written == self._seen:
                return known
            base, answer = read_json(place / ASKED_NAME), read_json(place / ANSWER_NAME)
        except (OSError, LuthierError):
            return known  # not yet, or not any more
        samples, last = merged(known.samples, base["samples"], answer["samples"])
        if last is not None:
            known = self._keep(replace(known, samples=samples, last=last))
            write_json(place / ASKED_NAME, base | {"samples": answer["samples"]})
        self._seen = written
        return known

    def _save(self, known: WorkingSet) -> None:
        if known.save_path is None:
            return
        try:
            write_json(known.save_path, known.content())
        except LuthierError as error:
            _LOG.error("data set not saved", extra={"facts": {"error": str(error)}})


def merged(
    samples: Sequence[Sample], base: Sequence[Sample], answer: Sequence[Sample]
) -> tuple[tuple[Sample, ...], int | None]:
    """What `answer` says anew against `base`, in the fields that are in `samples` as they were.

    Returns:
        The samples, and the last place where something came; None when nothing did.
    """
    found: list[Sample] = []
    last = None
    for place, (ours, before, after) in enumerate(zip(samples, base, answer, strict=True)):
        new = {
            field: value
            for field, value in after.items()
            if value != before.get(field, _NOTHING)
            and ours.get(field, _NOTHING) == before.get(field, _NOTHING)
        }
        last = place if after != before else last
        found.append({**ours, **new} if new else ours)
    return tuple(found), last
