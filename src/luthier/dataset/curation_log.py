"""What curation has done so far, a line a file: written before the next file, whatever happens.

Every finished file is appended and synced at once, so that a killed run loses only the files that
it was working on. `curation.json` is made of these rows at the end; the ledger goes on, so that a
later run knows which files it need not touch. It also keeps what the report leaves out: outlines
and fingerprints.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from luthier.dataset.curate_file import CurateResult, CurateSettings
from luthier.dataset.tracks import LEDGER_NAME, REJECTED
from luthier.errors import LuthierError, PathError, StorageError
from luthier.files import atomic_file, is_temporary, read_json, write_json

INTENDED_NAME = ".curation.intended"  # there while a run is at work, and after it was killed
Row = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A row of the ledger, whatever the settings.

    Attributes:
        key: of the settings that it was made with.
        place: of the source in its input folder.
        row: the result.
        input: the input folder, absolute; "" in ledgers of earlier versions.
    """

    key: str
    place: str
    row: Row
    input: str = ""

    @property
    def output(self) -> str | None:
        """The name of what was written; None where nothing was."""
        path = self.row.get("output_path")
        return Path(path).name if path else None

    def lives_beside(self, input_dir: Path) -> bool:
        """Whether the source lies in another input folder than `input_dir`, still."""
        if not self.input:
            return os.path.exists(str(self.row.get("source", "")))
        other = self.input != os.path.realpath(input_dir)
        return other and os.path.exists(os.path.join(self.input, self.place))


class Ledger:
    """The rows of one output folder, by the source's place in the input folder: neither folder has
    to be named in the same way, or stay where it is.

    Args:
        output_dir: where `curation.jsonl` lies, or will lie.
        settings: a row counts only when it was made with the same.

    Attributes:
        rows: of those settings, by place; of several input folders the latest.
        entries: the same, by place and input folder.
        owners: whoever wrote a file last, by its name, with whatever settings.
        digests: every sha256 that was written under a name.
        unfinished: names that a killed run may have written without coming to say so.
    """

    def __init__(self, output_dir: Path, settings: CurateSettings) -> None:
        self.path = output_dir / LEDGER_NAME
        self.key = _key(settings)
        self.entries: dict[tuple[str, str], Entry] = {}
        self.owners: dict[str, Entry] = {}
        self.digests: dict[str, set[str]] = {}
        self._intended: set[str] = set()
        self._lines = 0
        for line in _lines(self.path):
            self._lines += 1
            if (entry := _entry(line)) is not None:
                self._take(entry)
        self.unfinished = _intended(output_dir / INTENDED_NAME)

    @property
    def rows(self) -> dict[str, Row]:
        """The rows of the settings by place."""
        return {place: entry.row for (place, _), entry in self.entries.items()}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take rows until the block ends."""
        kept = self._kept()
        if self._lines > 2 * len(kept):
            with atomic_file(self.path) as temporary:
                temporary.write_bytes(b"".join(_line(entry) for entry in kept))
        try:
            stream = self.path.open("a+b")
            _close_torn_line(stream)
        except OSError as error:
            raise PathError(f"{self.path} cannot be written: {error.strerror}.") from error
        with stream:
            self._stream = stream
            yield

    def intend(self, names: Collection[str]) -> None:
        """Say which files are about to be written; none of them is somebody else's now."""
        write_json(self.path.with_name(INTENDED_NAME), sorted({*names, *self.unfinished}))
        self._intended = {*names, *self.unfinished}

    def end(self) -> None:
        """Forget what was intended, where everything that is there of it has its row."""
        unknown = (n for n in self._intended if n not in self.digests)
        if not any((self.path.parent / name).exists() for name in unknown):
            self.path.with_name(INTENDED_NAME).unlink(missing_ok=True)

    def add(self, place: str, result: CurateResult, input: str = "") -> None:
        """Append what became of the source at `place`; when this returns, it is on the disk."""
        entry = Entry(self.key, place, asdict(result), input)
        self._take(entry)
        try:
            self._stream.write(_line(entry))
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written: {error.strerror}. What was finished before is "
                "kept: free some space and run the same command again."
            ) from error

    def _take(self, entry: Entry) -> None:
        if entry.key == self.key:
            # Behind all others: of several input folders the latest counts.
            self.entries.pop((entry.place, entry.input), None)
            self.entries[entry.place, entry.input] = entry
        if name := entry.output:
            self.owners[name] = entry
            self.digests.setdefault(name, set()).add(str(entry.row.get("output_sha256")))

    def _kept(self) -> list[Entry]:
        """What still counts: the rows of the settings, and who wrote the files that are there."""
        counting = list(self.entries.values())
        others = [e for e in self.owners.values() if e.key != self.key and self._is_there(e)]
        return [*others, *counting]

    def _is_there(self, entry: Entry) -> bool:
        folder = self.path.parent
        return any((place / str(entry.output)).exists() for place in (folder, folder / REJECTED))


def remove_temporaries(output_dir: Path) -> None:
    """Remove the unfinished files of a run that was killed; its lock must be held."""
    for path in output_dir.iterdir():
        if is_temporary(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _key(settings: CurateSettings) -> str:
    """Changes with the settings, and with what a row holds: rows of another shape are no use."""
    shape = sorted(f.name for f in fields(CurateResult))
    text = json.dumps([settings.model_dump(), shape], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _line(entry: Entry) -> bytes:
    text = json.dumps(asdict(entry), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            yield from stream
    except FileNotFoundError:
        return
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from error


def _entry(line: bytes) -> Entry | None:
    """What a line holds; None for the torn last line of a killed run, and for foreign ones."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    key, place, row = (value.get(name) for name in ("key", "place", "row"))
    if not (isinstance(key, str) and isinstance(place, str) and isinstance(row, dict)):
        return None
    return Entry(key, place, row, str(value.get("input", "")))


def _intended(path: Path) -> set[str]:
    try:
        found = read_json(path)
    except LuthierError:  # there is none, or the system lost power
        return set()
    return set(map(str, found)) if isinstance(found, list) else set()


def _close_torn_line(stream: BinaryIO) -> None:
    """Let the next row begin on a line of its own."""
    if stream.seek(0, os.SEEK_END):
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.write(b"\n")
