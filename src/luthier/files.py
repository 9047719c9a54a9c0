"""The one way to write files: temporary name, fsync, rename. And the one way to hash and read them.

A reader sees the old file, the new file or none, never a part. A full disk or a read-only folder
becomes one sentence, and the temporary file is gone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError, OutputError, PathError, StorageError
from luthier.stopping import last_act

CACHE_VARIABLE = "LUTHIER_CACHE_DIR"
_LONGEST_NAME = 255  # bytes, on every usual file system


def _explain(error: OSError, path: Path, temporary: Path | None = None) -> LuthierError:
    # First, because a copy that finds no room names the file that it was reading.
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        what = "a file-size limit is reached" if error.errno == errno.EFBIG else "the disk is full"
        return StorageError(
            f"{what}: {path} could not be written and was left as it was. "
            "Free some space, or choose another output folder."
        )
    if temporary and error.filename and not str(error.filename).startswith(str(temporary)):
        # The writer stumbled over a file of its own: naming the output would mislead.
        return PathError(f"{error.filename} cannot be read or written: {error.strerror}.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PathError(f"{path} cannot be written: {error.strerror}. Choose another folder.")
    return PathError(f"{path} cannot be written: {error.strerror or error}.")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# What `sibling` calls a file or folder that is not finished.
_TEMPORARY = re.compile(r"\..{0,24}\.[0-9a-f]{8}\.tmp(\.[^.]+)?", re.DOTALL)


def is_temporary(name: str) -> bool:
    """Whether a name is one that the writers of this module give to what is not finished."""
    return _TEMPORARY.fullmatch(name) is not None


def is_temporary_of(name: str, path: Path) -> bool:
    """Whether a name is one that these writers give to what will be `path`."""
    start, end = f".{path.stem[:24]}.", f".tmp{path.suffix}"
    middle = name[len(start) : len(name) - len(end)]
    fits = name.startswith(start) and name.endswith(end)
    return fits and re.fullmatch(r"[0-9a-f]{8}", middle) is not None


def check_name(path: Path, suffix: str = "", kind: type[PathError] = OutputError) -> None:
    """Raise an error of `kind` where the system cannot hold `path`, or `path` with `suffix` behind
    it: a name has at most 255 bytes, of which a letter may take four.
    """
    named = path.with_name(path.name + suffix) if suffix else path
    try:
        os.lstat(named)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            room = f", which needs room for {suffix} beside it" if suffix else ""
            raise kind(
                f"{path} has too long a name{room}: take one of at most "
                f"{_LONGEST_NAME - len(suffix)} bytes (a letter may have four)."
            ) from error
    except ValueError:
        raise kind(f"{str(path)!r} is no name: it has a zero byte in it.") from None


def sibling(path: Path) -> Path:
    """A hidden name beside `path`, for what is not finished; see `is_temporary`."""
    # Same folder, so that the rename stays on one file system; same suffix, because writers look
    # at it; a short stem, because a name has at most 255 bytes and a letter may take four.
    return path.with_name(f".{path.stem[:24]}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")


def _remove(temporary: Path) -> None:
    # On a read-only disk even removing what is not there fails: the first error is the one to tell.
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Create `path` and its parents; raise `PathError` in a sentence where that is impossible."""
    while True:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            # What is there is no folder; or it was one, which somebody else removed since.
            file = next((p for p in (path, *path.parents) if os.path.lexists(p)), path)
            if file.is_dir():
                continue
            raise PathError(f"{file} is a file, but a folder is needed there.") from None
        except OSError as error:
            raise _explain(error, path) from error
        return path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path with `path`'s suffix: it becomes `path`, or nothing remains."""
    make_folder(path.parent)
    temporary = sibling(path)
    try:
        with last_act(lambda: _remove(temporary)):
            yield temporary
            _fsync(temporary)
            os.replace(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        raise _explain(error, path, temporary) from error
    finally:
        _remove(temporary)


def check_place(path: Path) -> None:
    """Raise, before long work, what writing `path` would raise: `PathError` or `StorageError`.

    The folder that it will lie in is made.
    """
    check_name(path)
    if path.is_dir():
        raise PathError(f"{path} is a folder, but a file is to be written there.")
    make_folder(path.parent)
    temporary = sibling(path)
    try:
        temporary.touch()
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        _remove(temporary)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder: it replaces `path` as a whole, or nothing remains."""
    path = Path(os.path.realpath(path))  # a link stays a link: the folder behind it is replaced
    if path.exists() and not path.is_dir():
        raise PathError(f"{path} is a file, but a folder is needed there.")
    make_folder(path.parent)
    temporary = sibling(path)
    try:
        temporary.mkdir()
        with last_act(lambda: _remove_folder(temporary)):
            yield temporary
            for item in temporary.rglob("*"):
                if item.is_file():
                    _fsync(item)
            _replace_folder(temporary, path)
    except OSError as error:
        raise _explain(error, path, temporary) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def temporary_folder(where: Path | None = None) -> Iterator[Path]:
    """Yield a folder that is gone afterwards, however the command ends short of a kill.

    Args:
        where: the folder that it is made in; None takes the system's place for such things.
    """
    with tempfile.TemporaryDirectory(prefix="luthier-", dir=where) as name:
        folder = Path(name)
        with last_act(lambda: _remove_folder(folder)):
            yield folder


def link_or_copy(source: Path, target: Path) -> None:
    """Give the file behind `source` a second name; a copy where the file system allows none."""
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _remove_folder(folder: Path) -> None:
    """Remove a temporary folder that another thread may still be writing, or about to rename."""
    doomed = sibling(folder)
    with contextlib.suppress(OSError):
        os.replace(folder, doomed)  # from here on nobody can give it its final name
        shutil.rmtree(doomed, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    # A folder cannot be renamed over a full one: the old one steps aside first and is removed last.
    if not path.exists():
        os.replace(new, path)
    else:
        old = sibling(path)
        os.replace(path, old)
        try:
            os.replace(new, path)
        except OSError:
            os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _fsync(path.parent)


def free_place(path: Path) -> Path:
    """`path`, or where something is there already, with a number behind its stem."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path` atomically; a byte of a name that is none is \\udcXX."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raise `PathError` naming the line when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PathError(f"{path} does not exist.") from None
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PathError(f"{path} is not valid JSON: {error}.") from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file, or of a folder's files by sorted name and contents, as hex."""
    if path.is_dir():
        total = hashlib.sha256()
        for item in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(f"{item.relative_to(path).as_posix()}\0{sha256_of(item)}\n".encode())
        return total.hexdigest()
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise PathError(f"{path} does not exist.") from None
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from error


def cache_folder(kind: str) -> Path:
    """Where luthier keeps what it can make again, a folder a kind; it may not be there yet.

    It is $LUTHIER_CACHE_DIR, else luthier/ in $XDG_CACHE_HOME or ~/.cache.
    """
    own = os.environ.get(CACHE_VARIABLE)
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return (Path(own).expanduser() if own else Path(home) / "luthier") / kind


def refuse_odd_name(path: Path) -> None:
    """Raise `PathError` where a file's name is no UTF-8, so that no text can name it."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        shown = path.name.encode("utf-8", "backslashreplace").decode()
        raise PathError(
            f"{path.parent} holds a file whose name is no UTF-8 text ({shown}): rename it."
        ) from None


def existing_folder(path: Path, what: str) -> Path:
    """Return `path` when it is a folder that can be listed; else raise `PathError` with `what`."""
    try:
        path.stat()
    except FileNotFoundError:
        raise PathError(f"the {what} {path} does not exist.") from None
    except OSError as error:
        raise PathError(f"the {what} {path} cannot be read: {error.strerror}.") from error
    if not path.is_dir():
        raise PathError(f"the {what} {path} is a file, but a folder is needed.")
    if not os.access(path, os.R_OK | os.X_OK):
        raise PathError(f"the {what} {path} cannot be read: permission denied.")
    return path
