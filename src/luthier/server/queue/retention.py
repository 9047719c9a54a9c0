"""What has expired goes: ended tasks by age, results by size, and what was left half-written.

Ages are of `Uptime`, which cannot jump. Where much would go at once, that is told first and waits.
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from luthier.server.home import DATABASE_NAME
from luthier.server.queue.clock import Uptime
from luthier.server.queue.folders import Place, doom
from luthier.server.queue.inventory import Inventory
from luthier.server.queue.queue import Queue

_LOG = logging.getLogger("luthier.server.queue.retention")
_MANY = 20  # tasks at once, and more than half of all that have ended
WAIT_S = 3600.0
# What the database knows of a place, by name.
_KNOWN: dict[Place, str] = {
    "results": "SELECT id FROM tasks",
    "uploads": "SELECT name FROM folders WHERE place = 'uploads'",
}


@dataclass(frozen=True)
class Places:
    """Where the server keeps things, below one home folder."""

    home: Path

    @property
    def database(self) -> Path:
        """The queue."""
        return self.home / DATABASE_NAME

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
        keep_s: how long an ended task stays, seconds in which the machine ran.
        keep_bytes: how much all results may take; the oldest go first.
        inventory, uptime: of the same home; its own when left out.
    """

    def __init__(
        self,
        queue: Queue,
        places: Places,
        *,
        keep_s: float,
        keep_bytes: int,
        inventory: Inventory | None = None,
        uptime: Uptime | None = None,
    ) -> None:
        self._queue, self._places = queue, places
        self._keep_s, self._keep_bytes = keep_s, keep_bytes
        self._inventory = inventory or Inventory(queue.store)
        self._uptime = uptime or Uptime(queue.store)
        self._has_told = False
        self._waits_since: float | None = None

    def clean(self) -> int:
        """Remove what has expired; return how many tasks went."""
        self._uptime.keep()
        now = self._uptime.now()
        with self._queue.store.transaction() as connection:
            # Whatever is not alive, so that damaged records go as well. An age begins where it is
            # first seen here: up to a minute late, never early.
            connection.execute(
                "UPDATE tasks SET kept_since = ? WHERE kept_since IS NULL "
                "AND state NOT IN ('queued', 'running')",
                (now,),
            )
            gone = self._expired(connection, now)
            if self._waits(connection, len(gone), now):
                gone = []
            connection.executemany(
                "DELETE FROM tasks WHERE id = ?", [(identity,) for identity in gone]
            )
            doom(connection, gone)
        self._inventory.sweep()
        if not self._has_told:
            self._has_told = True
            self._tell_of_strangers()
        return len(gone)

    def _expired(self, connection: sqlite3.Connection, now: float) -> list[str]:
        old = connection.execute(
            "SELECT id FROM tasks WHERE state NOT IN ('queued', 'running') AND kept_since < ?",
            (now - self._keep_s,),
        ).fetchall()
        # The newest results that fit together stay: in the order of their ends, not of a clock.
        large = connection.execute(
            "SELECT id FROM (SELECT id, SUM(size_bytes) OVER (ORDER BY change DESC, number DESC) "
            "AS total FROM tasks WHERE state = 'succeeded') WHERE total > ?",
            (self._keep_bytes,),
        ).fetchall()
        return sorted({str(row["id"]) for row in (*old, *large)})

    def _waits(self, connection: sqlite3.Connection, count: int, now: float) -> bool:
        """Whether so many are too many to go without a warning that somebody can act on."""
        ended = 0
        if count > _MANY:
            ended = connection.execute(
                "SELECT COUNT(*) FROM tasks WHERE state NOT IN ('queued', 'running')"
            ).fetchone()[0]
        if 2 * count <= ended or not ended:
            self._waits_since = None
            return False
        if self._waits_since is None:
            self._waits_since = now
            told = (
                f"{count} of {ended} ended tasks have expired and go in {WAIT_S / 60:.0f} minutes, "
                "with their results: to keep them, start the server with other --keep-days and "
                "--keep-size."
            )
            _LOG.warning("retention waits", extra={"facts": {"told": told}})
        return now - self._waits_since < WAIT_S

    def _tell_of_strangers(self) -> None:
        for place, known in _KNOWN.items():
            ours = [str(row[0]) for row in self._queue.store.rows(known)]
            count = self._inventory.strangers(place, ours)
            if count:
                folder = self._places.home / place
                told = f"{count} entries belong to no task that this database knows: they stay."
                facts = {"folder": str(folder), "entries": count, "told": told}
                _LOG.warning("unknown files", extra={"facts": facts})
