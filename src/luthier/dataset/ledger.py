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
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO

from luthier.dataset.curate_file import CurateResult, CurateSettings
from luthier.errors import PathError, StorageError
from luthier.files import atomic_file

LEDGER_NAME = "curation.jsonl"
# What `files.atomic_file` calls a file that is not finished.
_TEMPORARY = re.compile(r"\..{0,24}\.[0-9a-f]{8}\.tmp(\.\w+)?", re.DOTALL)

Row = dict[str, Any]


class Ledger:
    """The rows of one output folder for one set of settings, by the source's place in the input
    folder: neither folder has to be named in the same way, or stay where it is.

    Args:
        output_dir: where `curation.jsonl` lies, or will lie.
        settings: a row counts only when it was made with the same.
    """

    def __init__(self, output_dir: Path, settings: CurateSettings) -> None:
        self.path = output_dir / LEDGER_NAME
        self.key = _key(settings)
        lines = list(_lines(self.path))
        self._lines = len(lines)
        found = (_entry(line, self.key) for line in lines)
        self.rows: dict[str, Row] = {entry["place"]: entry["row"] for entry in found if entry}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take rows until the block ends."""
        if self._lines > 2 * len(self.rows):
            self._rewrite()
        try:
            stream = self.path.open("a+b")
            _close_torn_line(stream)
        except OSError as error:
            raise PathError(f"{self.path} cannot be written: {error.strerror}.") from error
        with stream:
            self._stream = stream
            yield

    def add(self, place: str, result: CurateResult) -> None:
        """Append what became of the source at `place`; when this returns, it is on the disk."""
        row = asdict(result)
        self.rows[place] = row
        try:
            self._stream.write(_line(self.key, place, row))
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written: {error.strerror}. What was finished before is "
                "kept: free some space and run the same command again."
            ) from error

    def _rewrite(self) -> None:
        """Leave out the rows that later ones or other settings have made useless."""
        with atomic_file(self.path) as temporary:
            temporary.write_bytes(b"".join(_line(self.key, *item) for item in self.rows.items()))


def remove_temporaries(output_dir: Path) -> None:
    """Remove the unfinished files of a run that was killed; its lock must be held."""
    for path in output_dir.iterdir():
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _key(settings: CurateSettings) -> str:
    """Changes with the settings, and with what a row holds: rows of another shape are no use."""
    shape = sorted(f.name for f in fields(CurateResult))
    text = json.dumps([settings.model_dump(), shape], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _line(key: str, place: str, row: Row) -> bytes:
    entry = {"key": key, "place": place, "row": row}
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            yield from stream
    except FileNotFoundError:
        return
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from error


def _entry(line: bytes, key: str) -> dict[str, Any] | None:
    """What a line holds; None for other settings, and for the torn last line of a killed run."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and entry.get("key") == key
    return entry if whole and isinstance(entry.get("row"), dict) and "place" in entry else None


def _close_torn_line(stream: BinaryIO) -> None:
    """Let the next row begin on a line of its own."""
    if stream.seek(0, os.SEEK_END):
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.write(b"\n")
