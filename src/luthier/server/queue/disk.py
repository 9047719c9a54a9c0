"""How much room the disk has, asked for at most once a moment: the question waits for the disk."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

_FRESH_S = 1.0


class Disk:
    """The disk that a folder lies on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._free_bytes, self._asked = 0, float("-inf")

    @property
    def free_bytes(self) -> int:
        """Free bytes, as they were within the last second."""
        now = time.monotonic()
        if now - self._asked > _FRESH_S:
            self._free_bytes, self._asked = shutil.disk_usage(self._folder).free, now
        return self._free_bytes
