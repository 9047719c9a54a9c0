"""Open sessions, shared by everything in one process, within a limit of memory."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from luthier.errors import ModelError, RequestError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


class SessionKey(NamedTuple):
    """What makes two sessions the same: the file and its contents, the threads, the provider, and
    the layers that take adapters.
    """

    path: str
    sha256: str
    threads: int
    provider: str
    adapted: tuple[str, ...] = ()


class SessionPool:
    """Keeps sessions open; over the limit, the one that was used longest ago closes first.

    A session that is still running is freed when it returns. What counts is the size of the graph
    files: activations come on top while a graph runs.

    Args:
        limit_bytes: of all open graphs together; None keeps everything open.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit = limit_bytes
        self._open: OrderedDict[SessionKey, tuple[Any, int]] = OrderedDict()
        self._lock = threading.RLock()

    def set_limit(self, limit_bytes: int | None) -> None:
        """Change the limit; what is over the new one is closed at once."""
        with self._lock:
            self._limit = limit_bytes
            self._make_room(0)

    def get(self, key: SessionKey, size_bytes: int, open_session: Callable[[], Any]) -> Any:
        """The open session of `key`, opened now when it is not.

        Raises:
            ModelError: the graph alone is larger than the limit.
        """
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
                return self._open[key][0]
            if self._limit is not None and size_bytes > self._limit:
                raise ModelError(
                    f"the graph {key.path} has {size_bytes / 1e6:.3g} MB, more than the memory "
                    f"limit of {self._limit / 1e6:.3g} MB: raise the limit, or use a smaller "
                    "precision."
                )
            self._make_room(size_bytes)
            session = open_session()
            self._open[key] = session, size_bytes
            return session

    def release(self, path: str) -> None:
        """Close every session of a graph file."""
        with self._lock:
            for key in [key for key in self._open if key.path == path]:
                del self._open[key]

    def is_open(self, key: SessionKey) -> bool:
        """Whether the session of `key` is open."""
        return key in self._open

    @property
    def open_bytes(self) -> int:
        """The size of all graphs that are open."""
        with self._lock:
            return sum(size for _, size in self._open.values())

    def _make_room(self, size_bytes: int) -> None:
        if self._limit is None:
            return
        while self._open and self.open_bytes + size_bytes > self._limit:
            self._open.popitem(last=False)


SHARED = SessionPool()


def bytes_of(text: str) -> int:
    """A size as people write it (`800M`, `4 GB`) in bytes.

    Raises:
        RequestError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)B?\s*", text, re.IGNORECASE)
    size = float(found[1]) * _UNITS[found[2].upper()] if found else 0
    if size < 1:
        raise RequestError(f"{text!r} is not a size of memory: write for example 800M or 4G.")
    return int(size)
