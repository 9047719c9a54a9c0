"""The one error tree. A message says what was wrong, what was found, what is allowed, what to do
next.

The command line prints the message and exits with `exit_code`; libraries never exit and never
print.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class LuthierError(Exception):
    """Anything luthier refuses or cannot do, told in a sentence."""

    exit_code = 1

    def to_json(self) -> dict[str, Any]:
        """What --json prints of it."""
        return {"error": str(self), "kind": type(self).__name__}


class RequestError(LuthierError):
    """A value that the user gave is outside what is allowed (a tempo, a key, a flag)."""

    exit_code = 2


class AdapterError(RequestError):
    """An adapter is missing, damaged, of a kind that is not known here, or of another model."""


class PathError(LuthierError):
    """A file or folder is missing, unreadable, not writable, or not what was expected there."""


class OutputError(PathError):
    """What lies at an output place is not ours, or is read, and would be lost: it was not touched.

    A name that the system cannot hold is such a place too.
    """

    exit_code = 2


class StorageError(LuthierError):
    """The disk is full or refused the write; nothing half-written was left."""


class AudioError(LuthierError):
    """A file is not audio that can be decoded, or holds nothing to work with."""


class DatasetError(LuthierError):
    """A data set is inconsistent: unknown style, missing prompt, no tracks."""


class LicenceError(LuthierError):
    """Tracks have no record that allows AI training; `refused` lists every one with its reason."""

    exit_code = 3

    def __init__(self, message: str, refused: Iterable[Mapping[str, str]] = ()) -> None:
        super().__init__(message)
        self.refused = [dict(row) for row in refused]

    def to_json(self) -> dict[str, Any]:
        """What --json prints of it, the list included."""
        return {**super().to_json(), "refused": self.refused}


class ModelError(LuthierError):
    """A model folder is missing, incomplete, corrupted or of another kind."""


class TrainingError(LuthierError):
    """Training cannot start or had to stop: nothing to train on, a NaN, a torn checkpoint."""


class ExportError(LuthierError):
    """A graph could not be exported, or differs from the model by more than is allowed."""


class MissingExtraError(LuthierError):
    """A part of luthier that is not installed is needed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the '{extra}' extra: run  pip install 'luthier[{extra}]'")


class CancelledError(LuthierError):
    """Work was stopped because whoever started it asked for that; nothing was written."""
