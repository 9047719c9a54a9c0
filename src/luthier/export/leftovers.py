"""What a killed export left behind is removed by the next one to the same place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from luthier.files import is_temporary_of

_OWNER = "export.pid"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within the block, `folder` says which process writes it, and the system holds that it lives.

    A number alone would not do: another machine, or a container, has numbers of its own.
    """
    mark = folder / _OWNER
    with mark.open("w") as stream:
        stream.write(str(os.getpid()))
        stream.flush()
        _lock(stream.fileno())
        yield
    mark.unlink()


def remove_leftovers(output: Path) -> list[Path]:
    """Remove the temporary folders of `output` whose process is gone; returns them."""
    output = Path(os.path.realpath(output))
    removed = []
    for folder in output.parent.iterdir() if output.parent.is_dir() else ():
        if not is_temporary_of(folder.name, output) or folder.is_symlink():
            continue
        mark = folder / _OWNER
        if mark.is_file() and not _alive(mark):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _alive(mark: Path) -> bool:
    with contextlib.suppress(OSError, ValueError), mark.open("r+") as stream:
        if not _lock(stream.fileno()):
            return True
        pid = int(stream.read())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return True  # it cannot be told from one that has the same number since
        return False
    return True


def _lock(descriptor: int) -> bool:
    """Take the lock of an open file, if nobody has it; where there are no locks, on trust."""
    if find_spec("fcntl") is None:
        return True
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
