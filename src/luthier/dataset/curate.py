"""A folder of recordings → a folder of training-ready audio, and a report on every file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from luthier.dataset.curate_file import CurateJob, CurateResult, CurateSettings, to_json
from luthier.dataset.curation_log import Entry, Ledger, remove_temporaries
from luthier.dataset.duplicates import DuplicateGroup, duplicate_notes, find_duplicates
from luthier.dataset.local_pool import run_local
from luthier.dataset.metadata_lock import metadata_lock
from luthier.dataset.ray_cluster import run_ray
from luthier.dataset.rejected import Moved, OutputTracks
from luthier.dataset.track_names import folded, is_reserved
from luthier.dataset.tracks import LEDGER_NAME, is_audio, walk_audio
from luthier.errors import OutputError, PathError, RequestError
from luthier.files import check_name, existing_folder, make_folder, sha256_of, write_json
from luthier.output_folder import check_shared
from luthier.progress import SILENT, Display
from luthier.provenance import input_record, write_run
from luthier.stopping import last_act

STAGE = "curate"  # in the record of what this module writes
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
        rejected: tracks of earlier runs that moved to `rejected/`: no source, or not wanted now.
        restored: tracks that came back from there.
        foreign: files that somebody put in the place of one that luthier wrote; they stay.
    """

    results: tuple[CurateResult, ...]
    duplicates: tuple[DuplicateGroup, ...] = ()
    rejected: tuple[Moved, ...] = ()
    restored: tuple[Moved, ...] = ()
    foreign: tuple[str, ...] = ()

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
            "rejected": [moved.to_json() for moved in self.rejected],
            "restored": [moved.to_json() for moved in self.restored],
            "foreign": list(self.foreign),
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
    sole_input: bool = False,
) -> CurateReport:
    """Make every recording under `input_dir` training-ready in `output_dir`.

    A source that cannot be used is a row with a reason, not an error. A second run does only what
    is new or changed, by the sources' contents and the settings; so does one after a run that was
    stopped or killed, which loses only the files that were in work. What an earlier run wrote and
    this one does not want, or has no source for, moves to `rejected/`, and comes back when it is
    accepted again. What luthier did not write stays as it is.

    Args:
        input_dir: searched with all its sub-folders.
        output_dir: gets the audio (flat), `curation.json`, `curation.jsonl` and `run.json`.
        settings: None takes the defaults.
        display: shows progress.
        workers: processes; never more than cores or files.
        engine: "ray" spreads the work over a Ray cluster, with the same results.
        address: of the cluster; None starts Ray on this machine.
        sole_input: tracks of other input folders are rejected too, though these are there still.

    Raises:
        PathError: a folder is missing, empty of audio or not writable.
        OutputError: `output_dir` belongs to another stage.
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
        run = _Run(input_dir, output_dir, settings)
        if sole_input:
            run.tracks.reject_others()
        jobs = run.prepare(sources)
        try:
            with (
                last_act(lambda: remove_temporaries(output_dir)),
                run.ledger.open(),
                display.task("curate", len(jobs)) as task,
            ):
                run.begin(jobs)

                def record(job: CurateJob, result: CurateResult) -> None:
                    run.record(job, result)
                    task.advance(note=job.source.name)

                if engine == "ray":
                    run_ray(jobs, workers, address, record)
                else:
                    run_local(jobs, workers, record)
            run.settle(jobs)
        finally:
            # After a stop or a full disk too. A worker that outlived a killed run is gone by now.
            remove_temporaries(output_dir)
            run.ledger.end()
            report = run.report(jobs)
        _write_run(report, output_dir, settings)
    return report


class _Run:
    """One run over an output folder whose lock is held."""

    def __init__(self, input_dir: Path, output_dir: Path, settings: CurateSettings) -> None:
        self.input_dir, self.output_dir, self.settings = input_dir, output_dir, settings
        self.ledger = Ledger(output_dir, settings)
        self.tracks = OutputTracks(output_dir, self.ledger, input_dir)
        self.before: dict[str, list[Entry]] = {}  # who wrote the files that are there, by place
        self.done: dict[Path, CurateResult] = {}

    def prepare(self, sources: Sequence[Path]) -> list[CurateJob]:
        """Move out what has no source any more, bring back what is the same, name the rest."""
        self.tracks.reject_gone({_place(source, self.input_dir) for source in sources})
        for entry in self.ledger.owners.values():
            self.before.setdefault(entry.place, []).append(entry)
        jobs = _jobs(sources, self.input_dir, self.output_dir, self.settings, self.ledger)
        for job in jobs:
            if job.previous and job.previous["status"] == "success":
                self.tracks.restore(job.output.name, job.previous["output_sha256"])
        return jobs

    def begin(self, jobs: Sequence[CurateJob]) -> None:
        """Note which files may come, so that a run after a kill knows them for luthier's."""
        names = {name for job in jobs for name in _names_of(job)}
        self.ledger.intend({n for n in names if not os.path.lexists(self.output_dir / n)})

    def record(self, job: CurateJob, result: CurateResult) -> None:
        """Take a result, and keep it in the ledger."""
        self.done[job.source] = result = _printable(result)
        if not result.unchanged:
            place = _place(job.source, self.input_dir)
            self.ledger.add(place, result, os.path.realpath(self.input_dir))

    def settle(self, jobs: Sequence[CurateJob]) -> None:
        """When all is done: move out what this run does not want, give back texts of the rest."""
        results = {_place(job.source, self.input_dir): self.done[job.source] for job in jobs}
        wanted = {Path(r.output_path).name for r in results.values() if r.output_path}
        stems = {Path(name).stem for name in wanted}
        for path, entry in list(self.tracks.written()):
            result = results.get(entry.place)
            if path.name in wanted or result is None or not self._is_of(entry, result):
                continue
            made = result.output_path and Path(result.output_path).name
            reason = f"it is {made} now." if made else str(result.reason)
            self.tracks.reject(path, reason, texts=path.stem not in stems)
        for place, result in results.items():
            for entry in self.before.get(place, ()) if result.output_path else ():
                if self._is_of(entry, result):
                    self.tracks.restore_texts(entry, Path(str(result.output_path)).stem)

    def _is_of(self, entry: Entry, result: CurateResult) -> bool:
        """Whether an earlier row is about the same track, and not one of another input folder."""
        same = entry.row.get("source_sha256") == result.source_sha256
        return same or not entry.lives_beside(self.input_dir)

    def report(self, jobs: Sequence[CurateJob]) -> CurateReport:
        """What was done, also where the run was stopped; written down unless nothing was."""
        if not self.done:
            return CurateReport(())
        found = _report([self.done[job.source] for job in jobs if job.source in self.done])
        tracks = self.tracks
        found = replace(
            found,
            rejected=tuple(tracks.moved),
            restored=tuple(tracks.restored),
            foreign=tuple(tracks.foreign),
        )
        _write_report(found, self.output_dir, self.settings)
        return found


def _names_of(job: CurateJob) -> list[str]:
    return [path.name for path in (job.output, job.spare) if path]


def plan(input_dir: Path, output_dir: Path, settings: CurateSettings) -> list[CurateJob]:
    """What would be read and written: every source with its own output name."""
    sources = _sources(input_dir, output_dir)
    return _jobs(sources, input_dir, output_dir, settings, Ledger(output_dir, settings))


def _sources(input_dir: Path, output_dir: Path) -> list[Path]:
    existing_folder(input_dir, "input folder")
    check_name(output_dir)
    if os.path.realpath(input_dir) == os.path.realpath(output_dir):
        raise OutputError(
            f"{input_dir} is both the input and the output folder: recordings would be "
            "overwritten. Choose another output folder; one inside the input folder is fine."
        )
    # A run that was stopped has left no record, but its ledger.
    is_ours = (output_dir / LEDGER_NAME).is_file()
    check_shared(output_dir, STAGE, [] if is_ours else [REPORT_NAME])
    sources = list(walk_audio(input_dir, leave_out=Path(os.path.realpath(output_dir))))
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
    ledger: Ledger,
) -> list[CurateJob]:
    before = [_previous(source, input_dir, ledger) for source in sources]
    suffix = f".{settings.target_format}"
    # What has a name keeps it: a new file must not take the name of one that was done before.
    kept = [Path(entry.output).stem if entry and entry.output else "" for entry in before]
    taken = _taken(output_dir, ledger, {_place(source, input_dir) for source in sources}, input_dir)
    jobs = []
    names = _output_names(sources, kept, input_dir, taken)
    for source, name, entry in zip(sources, names, before, strict=True):
        output, spare = output_dir / f"{name}{suffix}", _spare(source, input_dir, name)
        row = entry.row if entry else None
        # What failed is tried again: the reason may have been the machine's.
        if row and row["status"] == "failed":
            row = None
        if row:
            path = str(output) if row["output_path"] else None
            row = row | {"source": str(source), "output_path": path}
        stem = _safe_stem(source)
        remark = f"called {name}, because {stem}.json is a file of luthier's own"
        jobs.append(
            CurateJob(
                source,
                output,
                settings,
                previous=row,
                spare=output_dir / f"{spare}{suffix}",
                # What is not there now can only come of this run, and of a worker that died.
                ours=_ours(ledger, f"{name}{suffix}", f"{spare}{suffix}")
                if os.path.lexists(output)
                else None,
                remark=remark if is_reserved(stem) else None,
            )
        )
    return jobs


def _previous(source: Path, input_dir: Path, ledger: Ledger) -> Entry | None:
    """What an earlier run said about a source: of the same folder, or one that it was moved or
    copied from."""
    place = _place(source, input_dir)
    exact = ledger.entries.get((place, os.path.realpath(input_dir)))
    if exact is not None:
        return exact
    others = [entry for (found, _), entry in ledger.entries.items() if found == place]
    for entry in reversed(others):
        if not entry.lives_beside(input_dir):
            return entry
        if source.is_file() and entry.row.get("source_sha256") == sha256_of(source):
            return entry
    return None


def _taken(output_dir: Path, ledger: Ledger, places: set[str], input_dir: Path) -> set[str]:
    """The stems, folded, of tracks in the output folder that this run does not make."""
    taken = set()
    for path in sorted(output_dir.iterdir()) if output_dir.is_dir() else ():
        owner = ledger.owners.get(path.name)
        unknown = owner is None and path.name not in ledger.unfinished
        others = owner is not None and (owner.place not in places or owner.lives_beside(input_dir))
        if is_audio(path) and (unknown or others):
            taken.add(folded(path.stem))
    return taken


def _ours(ledger: Ledger, *names: str) -> frozenset[str] | None:
    if ledger.unfinished.intersection(names):
        return None  # a killed run wrote it and did not come to say what
    return frozenset(d for name in names for d in ledger.digests.get(name, ()))


def _place(source: Path, input_dir: Path) -> str:
    return printable(source.relative_to(input_dir).as_posix())


def _output_names(
    sources: Sequence[Path], kept: Sequence[str], root: Path, taken: set[str]
) -> list[str]:
    """A stem a source, unique whatever the case, and none whose texts would be luthier's own files:
    where a name is not free it gets a piece of the hash of the source's place below `root`."""
    kept = ["" if is_reserved(name) else name for name in kept]
    taken = taken | {folded(name) for name in kept}
    names = []
    for source, before in zip(sources, kept, strict=True):
        name = before or _safe_stem(source)
        if not before and (folded(name) in taken or is_reserved(name)):
            name = _spare(source, root, name)
        taken.add(folded(name))
        names.append(name)
    return names


def _spare(source: Path, root: Path, name: str) -> str:
    place = os.fsencode(source.relative_to(root).as_posix())
    return f"{name}-{hashlib.sha256(place).hexdigest()[:8]}"


def _safe_stem(source: Path) -> str:
    """The name without suffix as every file system takes it, shortened by letters and bytes."""
    # Bytes that are no UTF-8 come as lone surrogates, which cannot be written anywhere.
    text = source.stem.encode("utf-8", "replace").decode().translate(_BAD_IN_STEM)
    cut = text[:_LONGEST_STEM].encode()[:_LONGEST_STEM_BYTES].decode("utf-8", "ignore")
    return cut.strip(" .") or "track"


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
    write_run(output_dir, stage=STAGE, inputs=inputs, config=settings.model_dump())
