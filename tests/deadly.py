"""Paths that kill the process which looks at them: what a decoder out of memory does to it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path, PosixPath


class DeadlyPath(PosixPath):
    """Kills whoever asks whether it is a file."""

    def is_file(self) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        return False


class DeadlyOncePath(PosixPath):
    """Kills the first one who asks, and leaves a mark beside itself."""

    def is_file(self) -> bool:
        mark = Path(f"{self}.killed")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().is_file()


class StuckOncePath(PosixPath):
    """Holds the first one who asks up for ten minutes, and leaves a mark beside itself."""

    def is_file(self) -> bool:
        mark = Path(f"{self}.stuck")
        if not mark.exists():
            mark.touch()
            time.sleep(600)
        return super().is_file()
