"""One run a folder: two would write into each other's loss curve."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from luthier.errors import PathError, TrainingError
from luthier.files import make_folder


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold `folder` until the block ends. The system lets go of it when the process dies.

    Raises:
        TrainingError: another process holds it.
    """
    make_folder(folder)
    if find_spec("fcntl") is None:  # Windows has no such locks: there it is on trust
        yield
        return
    import fcntl

    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise PathError(f"{folder} cannot be written: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another run is training in {folder}: wait for it, stop it, or take another name."
            ) from None
        yield
    finally:
        os.close(descriptor)
