"""What is old goes: ended tasks by age, results by size, and files that belong to no task."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from luthier.server.queue import Queue

_ORPHAN_S = 3600.0  # a folder this young may belong to a request that is just coming in


@dataclass(frozen=True)
class Places:
    """Where the server keeps things, below one home folder."""

    home: Path

    @property
    def database(self) -> Path:
        """The queue."""
        return self.home / "tasks.sqlite3"

    @property
    def results(self) -> Path:
        """A folder for each succeeded task."""
        return self.home / "results"

    @property
    def uploads(self) -> Path:
        """A folder for each request that came with files."""
        return self.home / "uploads"


class Cleaner:
    """Removes what has expired.

    Args:
        keep_s: how long an ended task stays, seconds.
        keep_bytes: how much all results may take; the oldest go first.
    """

    def __init__(self, queue: Queue, places: Places, *, keep_s: float, keep_bytes: int) -> None:
        self._queue, self._places = queue, places
        self._keep_s, self._keep_bytes = keep_s, keep_bytes

    def clean(self, now: float | None = None) -> int:
        """Remove what has expired at `now`; return how many tasks went."""
        now = time.time() if now is None else now
        gone = self._expired(now)
        for identity in gone:
            shutil.rmtree(self._places.results / identity, ignore_errors=True)
        self._remove_orphans(now)
        return len(gone)

    def _expired(self, now: float) -> list[str]:
        with self._queue.store.transaction() as connection:
            # Whatever is not alive, so that damaged records go as well.
            old = connection.execute(
                "DELETE FROM tasks WHERE state NOT IN ('queued', 'running') "
                "AND CAST(COALESCE(ended, created) AS REAL) < ? RETURNING id",
                (now - self._keep_s,),
            ).fetchall()
            # The newest results that fit together stay.
            large = connection.execute(
                "DELETE FROM tasks WHERE number IN (SELECT number FROM (SELECT number, "
                "SUM(size_bytes) OVER (ORDER BY ended DESC, number DESC) AS total "
                "FROM tasks WHERE state = 'succeeded') WHERE total > ?) RETURNING id",
                (self._keep_bytes,),
            ).fetchall()
        return [row["id"] for row in (*old, *large)]

    def _remove_orphans(self, now: float) -> None:
        """Folders that no task knows: of requests that were refused, or cut off by a crash."""
        uploads = [p for p in _folders(self._places.uploads) if _age_s(p, now) > _ORPHAN_S]
        rows = self._queue.store.rows("SELECT uploads FROM tasks WHERE uploads IS NOT NULL")
        wanted = {row["uploads"] for row in rows}
        for folder in uploads:
            if folder.name not in wanted:
                shutil.rmtree(folder, ignore_errors=True)
        results = [p for p in _folders(self._places.results) if _age_s(p, now) > _ORPHAN_S]
        known = self._queue.find([path.name for path in results])
        for folder in results:
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _age_s(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
