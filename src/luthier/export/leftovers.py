"""What a killed export left behind is removed by the next one to the same place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OWNER = "export.pid"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within the block, `folder` says which process writes it."""
    mark = folder / _OWNER
    mark.write_text(str(os.getpid()))
    yield
    mark.unlink()


def remove_leftovers(output: Path) -> list[Path]:
    """Remove the temporary folders of `output` whose process is gone; returns them."""
    output = output.resolve()
    removed = []
    for folder in output.parent.glob(f".{output.stem[:24]}.*.tmp{output.suffix}"):
        mark = folder / _OWNER
        if mark.is_file() and not _alive(mark):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _alive(mark: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(mark.read_text()), 0)
        return True
    return False
