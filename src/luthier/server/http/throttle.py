"""How often each client may ask: a bucket that fills steadily and empties by one a request."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict

_MOST_CLIENTS = 10_000
_BURST_S = 10.0  # a bucket holds what flows into it in so many seconds


class Rates:
    """Token buckets, one a client; the client that was seen longest ago is forgotten first.

    Args:
        per_second: requests that each client may send, on average.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second, self._size = per_second, max(1.0, per_second * _BURST_S)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, now: float | None = None) -> float:
        """Take one request of a client; 0 when it may pass, else the seconds until it might."""
        now = time.monotonic() if now is None else now
        level, seen = self._buckets.pop(client, (self._size, now))
        level = min(self._size, level + (now - seen) * self._per_second)
        passes = level >= 1
        self._buckets[client] = level - passes, now
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if passes else (1 - level) / self._per_second

    def __len__(self) -> int:
        return len(self._buckets)


def network_of(address: str) -> str:
    """Who an address stands for: in IPv6 whoever has one has the 2^64 of its network."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False))
    except ValueError:
        return address
