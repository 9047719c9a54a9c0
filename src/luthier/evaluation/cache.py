"""What was measured on an audio file, kept under the sha256 of its contents: measured once.

A file that changes has another address, so nothing is ever out of date; a damaged entry is measured
again. Arrays only, no pickle.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luthier.errors import LuthierError
from luthier.files import atomic_file, cache_folder, sha256_of

Values = NDArray[np.float64]


def default_folder() -> Path:
    """Where measures are kept: `evaluation` in luthier's cache."""
    return cache_folder("evaluation")


class MeasureCache:
    """Measured values by file contents and kind of measure.

    Args:
        folder: made when something is first kept; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, path: Path, kind: str, measure: Callable[[], Values]) -> Values:
        """The `kind` values of the file at `path`, else what `measure()` gives, which is kept.

        A cache that cannot be written (a full or read-only disk) is no reason to fail.
        """
        if self.folder is None:
            return measure()
        place = self.folder / re.sub(r"[^\w.@-]+", "_", kind) / f"{sha256_of(path)}.npy"
        kept = _read(place)
        if kept is not None:
            return kept
        values = np.asarray(measure(), np.float64)
        try:
            with atomic_file(place) as temporary:
                np.save(temporary, values, allow_pickle=False)
        except LuthierError:
            return values
        return values


def _read(path: Path) -> Values | None:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    good = isinstance(values, np.ndarray) and values.dtype == np.float64
    return values if good and bool(np.isfinite(values).all()) else None
