"""A folder of recordings → a folder of training-ready audio, and a report on every file."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from luthier.dataset.curate_file import (
    CurateJob,
    CurateResult,
    CurateSettings,
    curate_file,
    to_json,
)
from luthier.dataset.tracks import walk_audio
from luthier.errors import LuthierError, PathError
from luthier.files import existing_folder, make_folder, read_json, write_json
from luthier.progress import SILENT, Display
from luthier.provenance import input_record, write_run

REPORT_NAME = "curation.json"
_LONGEST_STEM = 60  # characters: room for the suffixes that later stages add
_BAD_IN_STEM = str.maketrans({c: "_" for c in '\\/:*?"<>|\n\r\t'})

__all__ = ["CurateReport", "CurateResult", "CurateSettings", "curate", "plan"]


@dataclass(frozen=True)
class CurateReport:
    """What a run did: one result a source, in the order of the sources."""

    results: tuple[CurateResult, ...]

    def count(self, status: str) -> int:
        """How many sources ended as `status`."""
        return sum(result.status == status for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """The seed's JSON: counts, then a row a source."""
        return {
            "processed": self.count("success"),
            "skipped": self.count("skipped"),
            "failed": self.count("failed"),
            "results": [to_json(result) for result in self.results],
        }


def curate(
    input_dir: Path,
    output_dir: Path,
    settings: CurateSettings | None = None,
    display: Display = SILENT,
    *,
    workers: int = 4,
) -> CurateReport:
    """Make every recording under `input_dir` training-ready in `output_dir`.

    A source that cannot be used is a row with a reason, not an error. A second run does only what
    is new or changed, by the sources' contents and the settings.

    Args:
        input_dir: searched with all its sub-folders.
        output_dir: gets the audio (flat), `curation.json` and `run.json`.
        settings: None takes the defaults.
        display: shows progress.
        workers: processes; never more than cores or files.

    Raises:
        PathError: a folder is missing, empty of audio or not writable.
        StorageError: the disk is full. What was finished before is kept and reported.
    """
    settings = settings or CurateSettings()
    jobs = plan(input_dir, output_dir, settings)
    make_folder(output_dir)
    if not os.access(output_dir, os.W_OK | os.X_OK):
        raise PathError(f"the output folder {output_dir} cannot be written. Choose another.")
    done: dict[Path, CurateResult] = {}
    try:
        with display.task("curate", len(jobs)) as task:
            for job, result in _run(jobs, workers):
                done[job.source] = result
                task.advance(note=job.source.name)
    finally:
        # After Ctrl-C or a full disk too: the next run then goes on from here.
        report = CurateReport(tuple(done[j.source] for j in jobs if j.source in done))
        if done:
            _write_report(report, output_dir, settings)
    inputs = [
        input_record(Path(r.source), r.source_sha256) for r in report.results if r.source_sha256
    ]
    write_run(output_dir, stage="curate", inputs=inputs, config=settings.model_dump())
    return report


def plan(input_dir: Path, output_dir: Path, settings: CurateSettings) -> list[CurateJob]:
    """What would be read and written: every source with its own output name."""
    existing_folder(input_dir, "input folder")
    sources = list(walk_audio(input_dir, leave_out=output_dir.resolve()))
    if not sources:
        raise PathError(
            f"the input folder {input_dir} has no audio: MP3, WAV, FLAC, M4A, OGG, Opus and AIFF "
            "files are looked for, in its sub-folders too."
        )
    before = _previous(output_dir, settings)
    names = _output_names(sources, input_dir)
    return [
        CurateJob(
            source=source,
            output=output_dir / f"{name}.{settings.target_format}",
            settings=settings,
            previous=before.get(str(source)),
        )
        for source, name in zip(sources, names, strict=True)
    ]


def _output_names(sources: Sequence[Path], root: Path) -> list[str]:
    """A stem a source, unique whatever the case: where two would be one, all of them but the
    first get a piece of the hash of their place below `root`."""
    taken: set[str] = set()
    names = []
    for source in sources:
        name = source.stem.translate(_BAD_IN_STEM)[:_LONGEST_STEM]
        if name.casefold() in taken:
            place = source.relative_to(root).as_posix()
            name = f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _previous(output_dir: Path, settings: CurateSettings) -> dict[str, dict[str, Any]]:
    """Rows of an earlier report with the same settings, by source; failed ones are tried again."""
    path = output_dir / REPORT_NAME
    if not path.is_file():
        return {}
    document = read_json(path)
    if not isinstance(document, dict) or document.get("settings") != settings.model_dump():
        return {}
    return {row["source"]: row for row in document["results"] if row["status"] != "failed"}


def _write_report(report: CurateReport, output_dir: Path, settings: CurateSettings) -> None:
    document = report.to_json() | {"settings": settings.model_dump()}
    write_json(output_dir / REPORT_NAME, document)


def _run(jobs: list[CurateJob], workers: int) -> Iterator[tuple[CurateJob, CurateResult]]:
    workers = max(1, min(workers, len(jobs), os.cpu_count() or 1))
    if workers == 1:
        yield from ((job, curate_file(job)) for job in jobs)
        return
    # "spawn": the display's threads must not be forked along.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_ignore_interrupt)
    try:
        futures = {pool.submit(curate_file, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise LuthierError(
            "a worker process was killed, most likely for lack of memory. What was finished is "
            "kept: run the same command again with --workers 1."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupt() -> None:
    # Ctrl-C reaches the whole process group: the parent decides, workers finish their file.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
