"""Counts and histograms of seconds by labels: cheap to add to, read when somebody asks."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

Labels = tuple[str, ...]


@dataclass
class Row:
    """One histogram: how many fell into each bucket (the last one has no upper end)."""

    counts: list[int]
    sum_s: float = 0.0

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.counts)


@dataclass
class Tally:
    """A histogram for each set of labels.

    Attributes:
        ends: the upper ends of the buckets, seconds.
    """

    ends: Sequence[float]
    rows: dict[Labels, Row] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, labels: Labels, seconds: float) -> None:
        """Take one in."""
        with self._lock:
            row = self.rows.get(labels)
            if row is None:
                row = self.rows[labels] = Row([0] * (len(self.ends) + 1))
            row.counts[bisect_left(self.ends, seconds)] += 1
            row.sum_s += seconds

    def copied(self) -> dict[Labels, Row]:
        """The rows as they are now."""
        with self._lock:
            return {labels: Row(row.counts[:], row.sum_s) for labels, row in self.rows.items()}
