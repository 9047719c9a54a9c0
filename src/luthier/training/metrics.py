"""The loss curve on disk: a JSON object a line and step, which a resumed run goes on with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from luthier.errors import StorageError
from luthier.files import make_folder, write_text


class Metrics:
    """Appends rows to a file that first loses every row after `step`.

    A row has: step, loss, learning_rate, gradient_norm (before clipping), seconds (it took),
    samples_per_s, memory_gb (the most so far) and, on the steps that saved a checkpoint,
    validation_loss. Of several processes one `writes`.
    """

    def __init__(self, path: Path, step: int, *, writes: bool = True) -> None:
        self.path = path if writes else Path(os.devnull)
        if not writes:
            self._stream = self.path.open("ab", buffering=0)
            return
        rows = [row for row in read_metrics(path) if row["step"] <= step]
        make_folder(path.parent)
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._stream = path.open("ab", buffering=0)

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; it is in the file when this returns, whatever happens to the process."""
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        try:
            written = self._stream.write(line)
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written: {error.strerror}. Free some space, then --resume."
            ) from error
        if written != len(line):
            raise StorageError(f"{self.path} was written in part: is the disk full?")

    def settle(self) -> None:
        """Wait until the rows are on the disk: a checkpoint must not be newer than its curve."""
        if self.path != Path(os.devnull):
            os.fsync(self._stream.fileno())

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a torn last line (the process was killed in it) is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
