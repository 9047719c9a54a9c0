"""Removes from the disk what the record of folders says may go, and nothing else.

Never through a link, and of a folder only the files that a server writes there: what somebody else
put into it stays, and is told.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from luthier.errors import StorageError
from luthier.files import make_folder
from luthier.server.queue.database import Store
from luthier.server.queue.folders import UPLOADED, Place, doom, note, root_of

_LOG = logging.getLogger("luthier.server.queue.inventory")
# Half-written results belong to a task that runs; half-written uploads to a request of this run.
_MAY_GO = (
    "SELECT place, name, root, files, state FROM folders WHERE (state = 'doomed' OR "
    "(state = 'made' AND place = 'uploads' AND run IS NOT ?1) OR "
    "(state = 'made' AND place = 'results' AND NOT EXISTS (SELECT 1 FROM tasks "
    "WHERE tasks.id = folders.owner AND tasks.state = 'running'))) AND (?2 IS NULL OR owner = ?2)"
)


@dataclass(frozen=True)
class _Folder:
    """A row of the record."""

    place: Place
    name: str
    root: str
    files: tuple[str, ...]
    state: str


class Inventory:
    """What was made in the home that a database lies in.

    Args:
        run: the run of the server; uploads that another one did not finish are left over.
    """

    def __init__(self, store: Store, run: str | None = None) -> None:
        self._store, self._home = store, store.path.parent
        self._run = run or uuid.uuid4().hex
        self._told: set[str] = set()

    def new_upload(self) -> Path:
        """A folder for a request's files, on record before it is there.

        Raises:
            StorageError, PathError: the disk refused.
        """
        name = uuid.uuid4().hex
        with self._store.transaction() as connection:
            note(connection, "uploads", name, owner=None, state="made", files=UPLOADED,
                 run=self._run)  # fmt: skip
        return make_folder(self._home / "uploads" / name)

    def drop_upload(self, folder: Path) -> None:
        """Remove the files of a request that was refused."""
        with suppress(StorageError):  # a full disk: the next run finds it
            with self._store.transaction(durable=False) as connection:
                connection.execute(
                    "UPDATE folders SET state = 'doomed', owner = name "
                    "WHERE place = 'uploads' AND name = ? AND state = 'made'",
                    (folder.name,),
                )
            self.sweep(folder.name)

    def replace(self, place: Place, name: str, owner: str, files: Collection[str]) -> None:
        """Put a folder on record that takes the place of the owner's others, which go."""
        with self._store.transaction() as connection:
            doom(connection, [owner])
            note(connection, place, name, owner=owner, state="kept", files=files)
        self.sweep(owner)

    def sweep(self, owner: str | None = None) -> int:
        """Remove what may go, of one owner or of all; return how many folders went."""
        rows = self._store.rows(_MAY_GO, (self._run, owner))
        gone = []
        for row in rows:
            files = tuple(json.loads(row["files"]))
            folder = _Folder(row["place"], row["name"], row["root"], files, row["state"])
            if self._is_gone(folder):
                gone.append((folder.place, folder.name))
        if gone:
            with self._store.transaction(durable=False) as connection:
                connection.executemany(
                    "DELETE FROM folders WHERE place = ? AND name = ? AND state != 'kept'", gone
                )
        return len(gone)

    def strangers(self, place: Place, known: Collection[str]) -> int:
        """How many entries of a place are not `known`."""
        ours = {*known}
        try:
            return sum(name not in ours for name in os.listdir(self._home / place))
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def _is_gone(self, folder: _Folder) -> bool:
        """Remove a folder; False when the disk refused, so that it is tried again."""
        path = self._place_of(folder)
        if path is None:
            self._tell(f"{folder.place}/{folder.name}", "it is not where it was made, and stays")
            return True
        try:
            left = _remove(path, folder)
        except FileNotFoundError:  # another process removes it as well
            return True
        except OSError as error:
            self._tell(str(path), f"not removed: {error.strerror}")
            return False
        if left:
            self._tell(str(path), f"{left} entries in it are not this server's, and stay")
        return True

    def _place_of(self, folder: _Folder) -> Path | None:
        """Where a folder is; None where a link leads elsewhere, or the name is none of ours."""
        path = self._home / folder.place
        parts = folder.name.split("/")
        if root_of(self._home, folder.place) != folder.root:
            return None
        if not {"", ".", ".."}.isdisjoint(parts):
            return None
        for part in parts:
            path = path / part
            if path.is_symlink():
                return None
        return path

    def _tell(self, path: str, why: str) -> None:
        if path not in self._told:
            self._told.add(path)
            _LOG.warning("folder not removed", extra={"facts": {"folder": path, "why": why}})


def _remove(path: Path, folder: _Folder) -> int:
    """Remove what was written; return how many entries of others are left."""
    if folder.place == "results":
        # How `atomic_folder` calls it until it is whole.
        for half in path.parent.glob(f".{path.name}.*.tmp"):
            shutil.rmtree(half, ignore_errors=True)
        if folder.state == "made":  # never told to anybody
            shutil.rmtree(path, ignore_errors=True)
    left = _emptied(path, folder.files)
    if folder.place == "results":
        with suppress(OSError):  # other attempts, or what others put there
            path.parent.rmdir()
    return left


def _emptied(path: Path, files: Collection[str]) -> int:
    try:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(path)]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    left = 0
    for name, facts in found:
        if stat.S_ISREG(facts.st_mode) and any(fnmatchcase(name, one) for one in files):
            (path / name).unlink(missing_ok=True)
        else:
            left += 1
    if not left:
        path.rmdir()
    return left
