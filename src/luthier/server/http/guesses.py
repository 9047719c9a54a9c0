"""Who guesses keys waits: a few wrong ones are forgiven, then so many a second are looked at."""

from __future__ import annotations

import time
from collections import OrderedDict

_FREE = 20.0  # wrong keys at once
_PER_S = 1.0
_MOST_DEBT = 600.0  # so that nobody's neighbours wait for ever
_MOST_KNOWN = 10_000


class Guesses:
    """Wrong keys by address; the address that was seen longest ago is forgotten first.

    A key that let its sender in before the guessing began goes on letting it in from there: whoever
    shares an address with a guesser is not locked out.
    """

    def __init__(self) -> None:
        self._debts: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait_s(self, address: str, client: str, now: float | None = None) -> float:
        """Seconds until a key of this address is looked at; 0 for now.

        Args:
            client: who the key says it is; the address itself when it says nobody.
        """
        over = self._debt(address, time.monotonic() if now is None else now) - _FREE
        if over <= 0:
            if client != address:
                self._known[address, client] = None
                _bounded(self._known)
            return 0.0
        return 0.0 if (address, client) in self._known else over / _PER_S

    def was_wrong(self, address: str, now: float | None = None) -> None:
        """A key of this address was refused."""
        now = time.monotonic() if now is None else now
        debt = min(_FREE + _MOST_DEBT, self._debt(address, now) + 1)
        self._debts.pop(address, None)
        self._debts[address] = debt, now
        _bounded(self._debts)

    def __len__(self) -> int:
        return len(self._debts) + len(self._known)

    def _debt(self, address: str, now: float) -> float:
        debt, seen = self._debts.get(address, (0.0, now))
        return max(0.0, debt - (now - seen) * _PER_S)


def _bounded(
    found: OrderedDict[str, tuple[float, float]] | OrderedDict[tuple[str, str], None],
) -> None:
    if len(found) > _MOST_KNOWN:
        found.popitem(last=False)
