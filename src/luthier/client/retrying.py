"""When to try again, and after how long."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_FIRST_S, _LONGEST_S = 0.25, 15.0
# Full, not ready, or a proxy whose server is just starting again.
PASSING = (429, 502, 503, 504)


class Patience:
    """Waits longer and longer between attempts, and knows when that is enough.

    Args:
        seconds: from now on, in all.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._attempts = 0

    def pause(self, retry_after: str | None = None) -> float | None:
        """How long to wait before the next attempt, seconds; None when it is time to give up.

        Args:
            retry_after: what the server says: seconds, or a date.
        """
        usual = min(_LONGEST_S, _FIRST_S * 2**self._attempts)
        self._attempts += 1
        # Spread, so that many clients do not come back at the same moment.
        wait = usual * random.uniform(0.5, 1.0)
        asked = seconds_of(retry_after)
        if asked is not None:
            wait = asked + random.uniform(0, min(1.0, usual))
        return None if time.monotonic() + wait > self._until else wait


def seconds_of(retry_after: str | None) -> float | None:
    """The header Retry-After as seconds from now (RFC 9110 §10.2.3); None when it says nothing."""
    text = (retry_after or "").strip()
    if not text:
        return None
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
