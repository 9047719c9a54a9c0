"""Editing a metadata file so that two processes that do it at once lose nothing."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from luthier.errors import DatasetError, PathError
from luthier.files import make_folder, read_json, write_json

LOCK_NAME = ".metadata.lock"
_WAIT_S, _TRY_EVERY_S = 30.0, 0.02


@contextmanager
def edit_json(path: Path, default: Any, *, wait_s: float = _WAIT_S) -> Iterator[Any]:
    """Yield the value of a JSON file (`default` where there is none) to be changed in place.

    What the block leaves is written, atomically and under the lock of the folder; nothing is
    written when the block raises or changes nothing.
    """
    with metadata_lock(path.parent, wait_s):
        before = read_json(path) if path.exists() else default
        value = deepcopy(before)
        yield value
        if value != before:
            write_json(path, value)


@contextmanager
def metadata_lock(folder: Path, wait_s: float = _WAIT_S) -> Iterator[None]:
    """Hold the only right to edit the metadata files in `folder`, which is made when missing.

    The right ends with the process that holds it, however that ends.

    Raises:
        PathError: the folder cannot be made or written to.
        DatasetError: another process kept the right for longer than `wait_s` seconds.
    """
    path = make_folder(folder) / LOCK_NAME
    until = time.monotonic() + wait_s
    while (descriptor := _try(path)) is None:
        if time.monotonic() > until:
            raise DatasetError(
                f"another process has been editing {folder} for more than {wait_s:g} s. Repeat "
                "this command when it is done; nothing was changed."
            )
        time.sleep(_TRY_EVERY_S)
    try:
        yield
    finally:
        # While it is still ours, so that whoever opened it before sees that it is not there.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _try(path: Path) -> int | None:
    """The descriptor of the lock file, locked; None while another process has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise PathError(f"{path.parent} cannot be edited: {error.strerror}.") from error
    held = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The one who had it removes the file: a lock on a removed file keeps nobody out.
        held = path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        raise PathError(f"{path.parent} cannot be locked: {error.strerror}.") from error
    finally:
        if not held:
            os.close(descriptor)
    return descriptor if held else None
