"""One writer a folder: two runs would write into each other's loss curve or feature cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from luthier.errors import PathError, TrainingError
from luthier.files import make_folder

_NAME = ".lock"


@contextmanager
def sole_user(folder: Path, *, before_waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold `folder` until the block ends. The system lets go of it when the process dies.

    Afterwards the lock is gone, and so are the folders that were made for it and got no contents.

    Args:
        folder: made where it is missing.
        before_waiting: called once where another process holds the folder; then it is waited for.
            None: not to wait.

    Raises:
        TrainingError: another process holds it, and it is not to be waited for.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    held = _acquired(folder, before_waiting)
    try:
        yield
    finally:
        with suppress(OSError):  # full folders stay
            if held is not None:
                (folder / _NAME).unlink()
            for path in made:
                path.rmdir()
        if held is not None:
            os.close(held)


def _acquired(folder: Path, before_waiting: Callable[[], None] | None) -> int | None:
    """The descriptor of the lock that is held; None on Windows, where it is on trust."""
    if find_spec("fcntl") is None:
        return None
    import fcntl

    told = False
    while True:
        try:
            make_folder(folder)  # the one waited for may have removed it
            descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise PathError(f"{folder} cannot be written: {error.strerror}.") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if before_waiting is None:
                    raise TrainingError(
                        f"another run is training in {folder}: wait for it, stop it, or take "
                        "another name."
                    ) from None
                if not told:
                    before_waiting()
                told = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever held it has removed it by now: a lock on a file without a name locks nothing.
            if _is(descriptor, folder / _NAME):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
