"""A folder of recordings → a folder of training-ready audio, and a report on every file."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from luthier.dataset.curate_file import CurateJob, CurateResult, CurateSettings, to_json
from luthier.dataset.duplicates import DuplicateGroup, duplicate_notes, find_duplicates
from luthier.dataset.ledger import Ledger, Row, remove_temporaries
from luthier.dataset.local_pool import run_local
from luthier.dataset.metadata_lock import metadata_lock
from luthier.dataset.ray_cluster import run_ray
from luthier.dataset.tracks import walk_audio
from luthier.errors import PathError, RequestError
from luthier.files import existing_folder, make_folder, write_json
from luthier.progress import SILENT, Display
from luthier.provenance import input_record, write_run
from luthier.stopping import last_act

REPORT_NAME = "curation.json"
Engine = Literal["local", "ray"]
_LONGEST_STEM, _LONGEST_STEM_BYTES = 60, 180  # room for the suffixes that later stages add
_BAD_IN_STEM = str.maketrans({c: "_" for c in '\\/:*?"<>|\x7f'} | {chr(c): "_" for c in range(32)})
_LOCK_WAIT_S = 2.0
_ONLY_IN_LEDGER = ("envelope", "fingerprint")  # thousands of numbers a track

__all__ = ["CurateReport", "CurateResult", "CurateSettings", "curate", "plan"]


@dataclass(frozen=True)
class CurateReport:
    """What a run did.

    Attributes:
        results: one a source, in the order of the sources.
        duplicates: groups of sources that hold the same recording.
    """

    results: tuple[CurateResult, ...]
    duplicates: tuple[DuplicateGroup, ...] = ()

    def count(self, status: str) -> int:
        """How many sources ended as `status`."""
        return sum(result.status == status for result in self.results)

    def to_json(self, *, outlines: bool = False) -> dict[str, Any]:
        """The contract's JSON: counts, then a row a source; `outlines` adds what pictures need."""
        rows = [to_json(result) for result in self.results]
        for row in () if outlines else rows:
            for name in _ONLY_IN_LEDGER:
                row.pop(name, None)
        return {
            "processed": self.count("success"),
            "skipped": self.count("skipped"),
            "failed": self.count("failed"),
            "results": rows,
            "duplicates": [group.to_json() for group in self.duplicates],
        }


def curate(
    input_dir: Path,
    output_dir: Path,
    settings: CurateSettings | None = None,
    display: Display = SILENT,
    *,
    workers: int = 4,
    engine: Engine = "local",
    address: str | None = None,
) -> CurateReport:
    """Make every recording under `input_dir` training-ready in `output_dir`.

    A source that cannot be used is a row with a reason, not an error. A second run does only what
    is new or changed, by the sources' contents and the settings; so does one after a run that was
    stopped or killed, which loses only the files that were in work.

    Args:
        input_dir: searched with all its sub-folders.
        output_dir: gets the audio (flat), `curation.json`, `curation.jsonl` and `run.json`.
        settings: None takes the defaults.
        display: shows progress.
        workers: processes; never more than cores or files.
        engine: "ray" spreads the work over a Ray cluster, with the same results.
        address: of the cluster; None starts Ray on this machine.

    Raises:
        PathError: a folder is missing, empty of audio or not writable.
        DatasetError: another run works in `output_dir`.
        StorageError: the disk is full. What was finished before is kept and reported.
    """
    settings = settings or CurateSettings()
    if workers < 1:
        raise RequestError(f"workers are 1 or more, not {workers}.")
    if address is not None and engine != "ray":
        raise RequestError("an address is that of a Ray cluster: take the engine 'ray' with it.")
    sources = _sources(input_dir, output_dir)
    make_folder(output_dir)
    if not os.access(output_dir, os.W_OK | os.X_OK):
        raise PathError(f"the output folder {output_dir} cannot be written. Choose another.")
    with metadata_lock(output_dir, _LOCK_WAIT_S):
        remove_temporaries(output_dir)
        ledger = Ledger(output_dir, settings)
        jobs = _jobs(sources, input_dir, output_dir, settings, ledger.rows)
        done: dict[Path, CurateResult] = {}
        report = CurateReport(())
        try:
            with (
                last_act(lambda: remove_temporaries(output_dir)),
                ledger.open(),
                display.task("curate", len(jobs)) as task,
            ):

                def record(job: CurateJob, result: CurateResult) -> None:
                    done[job.source] = result = _printable(result)
                    if not result.unchanged:
                        ledger.add(_place(job.source, input_dir), result)
                    task.advance(note=job.source.name)

                if engine == "ray":
                    run_ray(jobs, workers, address, record)
                else:
                    run_local(jobs, workers, record)
        finally:
            # After a stop or a full disk too. A worker that outlived a killed run is gone by now.
            remove_temporaries(output_dir)
            if done:
                report = _report([done[job.source] for job in jobs if job.source in done])
                _write_report(report, output_dir, settings)
        _write_run(report, output_dir, settings)
    return report


def plan(input_dir: Path, output_dir: Path, settings: CurateSettings) -> list[CurateJob]:
    """What would be read and written: every source with its own output name."""
    sources = _sources(input_dir, output_dir)
    rows = Ledger(output_dir, settings).rows
    return _jobs(sources, input_dir, output_dir, settings, rows)


def _sources(input_dir: Path, output_dir: Path) -> list[Path]:
    existing_folder(input_dir, "input folder")
    if input_dir.resolve() == output_dir.resolve():
        raise PathError(
            f"{input_dir} is both the input and the output folder: recordings would be "
            "overwritten. Choose another output folder; one inside the input folder is fine."
        )
    sources = list(walk_audio(input_dir, leave_out=output_dir.resolve()))
    if not sources:
        raise PathError(
            f"the input folder {input_dir} has no audio: MP3, WAV, FLAC, M4A, OGG, Opus and AIFF "
            "files are looked for, in its sub-folders too."
        )
    return sources


def _jobs(
    sources: Sequence[Path],
    input_dir: Path,
    output_dir: Path,
    settings: CurateSettings,
    rows: Mapping[str, Row],
) -> list[CurateJob]:
    before = [rows.get(_place(source, input_dir)) for source in sources]
    suffix = f".{settings.target_format}"
    # What has a name keeps it: a new file must not take the name of one that was done before.
    kept = [Path(row["output_path"]).stem if row and row["output_path"] else "" for row in before]
    jobs = []
    names = _output_names(sources, kept, input_dir)
    for source, name, row in zip(sources, names, before, strict=True):
        output = output_dir / f"{name}{suffix}"
        # What failed is tried again: the reason may have been the machine's.
        if row and row["status"] == "failed":
            row = None
        if row:
            path = str(output) if row["output_path"] else None
            row = row | {"source": str(source), "output_path": path}
        jobs.append(CurateJob(source, output, settings, previous=row))
    return jobs


def _place(source: Path, input_dir: Path) -> str:
    return printable(source.relative_to(input_dir).as_posix())


def _output_names(sources: Sequence[Path], kept: Sequence[str], root: Path) -> list[str]:
    """A stem a source, unique whatever the case: where two would be one, all of them but the
    first get a piece of the hash of their place below `root`."""
    taken = {_folded(name) for name in kept}
    names = []
    for source, before in zip(sources, kept, strict=True):
        name = before or _safe_stem(source)
        if not before and _folded(name) in taken:
            place = os.fsencode(source.relative_to(root).as_posix())
            name = f"{name}-{hashlib.sha256(place).hexdigest()[:8]}"
        taken.add(_folded(name))
        names.append(name)
    return names


def _safe_stem(source: Path) -> str:
    """The name without suffix as every file system takes it, shortened by letters and bytes."""
    # Bytes that are no UTF-8 come as lone surrogates, which cannot be written anywhere.
    text = source.stem.encode("utf-8", "replace").decode().translate(_BAD_IN_STEM)
    cut = text[:_LONGEST_STEM].encode()[:_LONGEST_STEM_BYTES].decode("utf-8", "ignore")
    return cut.strip(" .") or "track"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def printable(text: str) -> str:
    """`text` with every byte that is no UTF-8 (a lone surrogate in Python) written as \\udcXX."""
    return text.encode("utf-8", "backslashreplace").decode()


def _printable(result: CurateResult) -> CurateResult:
    reason = None if result.reason is None else printable(result.reason)
    return replace(result, source=printable(result.source), reason=reason)


def _report(results: Sequence[CurateResult]) -> CurateReport:
    """Group what sounds the same and note it on the rows."""
    usable = [r for r in results if r.fingerprint and r.status != "failed"]
    groups = find_duplicates({r.source: r.fingerprint for r in sorted(usable, key=_worth)})
    notes = duplicate_notes(groups, {r.source: Path(r.source).name for r in usable})
    noted = (
        replace(r, notes=[*r.notes, notes[r.source]]) if r.source in notes else r for r in results
    )
    return CurateReport(tuple(noted), tuple(groups))


def _worth(result: CurateResult) -> tuple[Any, ...]:
    """Sorts the copy that one would keep first: the best, then the longest."""
    length = round(result.measures.duration_s) if result.measures else 0  # encoders pad a little
    return (result.status != "success", -result.quality_score, -length, result.source)


def _write_report(report: CurateReport, output_dir: Path, settings: CurateSettings) -> None:
    document = report.to_json() | {"settings": settings.model_dump()}
    write_json(output_dir / REPORT_NAME, document)


def _write_run(report: CurateReport, output_dir: Path, settings: CurateSettings) -> None:
    inputs = [
        input_record(Path(r.source), r.source_sha256) for r in report.results if r.source_sha256
    ]
    write_run(output_dir, stage="curate", inputs=inputs, config=settings.model_dump())
