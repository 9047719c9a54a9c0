"""Time that nobody can set: the calendar jumps (NTP, a board without a battery), this does not.

All of it rests on the monotonic clock, which stands still while a machine sleeps or is off: what it
counts has really been lived through.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TypeVar

from luthier.server.queue.database import Store

Key = TypeVar("Key", bound=Hashable)
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")  # of Linux
_THIS_PROCESS = uuid.uuid4().hex


def boot_id() -> str:
    """What changes with each start of the machine; where it tells none, with each process."""
    try:
        return _BOOT_FILE.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return _THIS_PROCESS


class Uptime:
    """Seconds that the machine has run since this home was first served.

    It goes on after a restart of the server, also from where it was: the time between counts when
    the machine was on. It never runs ahead of the time that has really passed.

    Args:
        steady, boot: the machine's monotonic clock, and which start of the machine it counts from.
    """

    def __init__(
        self,
        store: Store,
        steady: Callable[[], float] = time.monotonic,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self._store, self._steady, self._boot = store, steady, boot
        self._ahead_s: float | None = None  # of the machine's clock

    def now(self) -> float:
        """The seconds; all who ask on one start of the machine are told the same."""
        if self._ahead_s is None:
            self.keep()
        assert self._ahead_s is not None
        return self._ahead_s + self._steady()

    def keep(self) -> None:
        """Write it down for those who ask after the next start of the machine."""
        with self._store.transaction(durable=False) as connection:
            steady, boot = self._steady(), self._boot()
            row = connection.execute("SELECT boot, steady, seconds FROM uptime").fetchone()
            seconds = float(row["seconds"]) if row else 0.0
            if self._ahead_s is not None:
                seconds = max(seconds, self._ahead_s + steady)
            elif row and row["boot"] == boot:  # back only where a virtual machine was
                seconds += max(0.0, steady - float(row["steady"]))
            connection.execute("DELETE FROM uptime")
            connection.execute("INSERT INTO uptime VALUES (?, ?, ?)", (boot, steady, seconds))
        self._ahead_s = seconds - steady


class Watch:
    """How long values have stayed the same while somebody was looking.

    A long pause between two looks (a frozen container, a machine that swaps) says nothing about
    what was looked at: whoever would have changed it was held up as well.

    Args:
        most_s: what a pause between two looks counts at most, seconds.
        steady: a monotonic clock.
    """

    def __init__(self, most_s: float, steady: Callable[[], float] = time.monotonic) -> None:
        self._most_s, self._steady = most_s, steady
        self._lock = threading.Lock()
        self._watched_s, self._looked = 0.0, steady()
        self._since: dict[Hashable, tuple[object, float]] = {}

    def silent_s(self, values: Mapping[Key, object]) -> dict[Key, float]:
        """Look at `values`; how long each has been as it is, seconds. What is new is at 0."""
        with self._lock:
            now = self._steady()
            self._watched_s += min(max(0.0, now - self._looked), self._most_s)
            self._looked = now
            since: dict[Hashable, tuple[object, float]] = {}
            for key, value in values.items():
                known = self._since.get(key)
                is_as_it_was = known is not None and known[0] == value
                since[key] = known if known and is_as_it_was else (value, self._watched_s)
            self._since = since
            return {key: self._watched_s - self._since[key][1] for key in values}
