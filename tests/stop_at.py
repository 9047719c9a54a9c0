"""`python stop_at.py MODULE:NAME NTH DELAY SIGNAL PROGRAM WORD...`: a luthier command that gets a
signal DELAY seconds after it has called a function for the NTH time.

The process, the signal and the work are real; only the moment is chosen. PROGRAM is `luthier`, or a
module of `luthier.cli.scripts`.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import threading
from typing import Any


def arm(place: str, nth: int, delay_s: float, number: int) -> None:
    """Let the function at `place` send the signal to this process."""
    module, _, names = place.partition(":")
    owner: Any = importlib.import_module(module)
    *path, name = names.split(".")
    for step in path:
        owner = getattr(owner, step)
    real, calls = getattr(owner, name), []

    def send() -> None:
        os.kill(os.getpid(), number)

    @functools.wraps(real)
    def called(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == nth:
            timer = threading.Timer(delay_s, send)
            timer.daemon = True
            timer.start()
        return real(*args, **kwargs)

    setattr(owner, name, called)


def main() -> int:
    """Arm, then run the command."""
    place, nth, delay_s, name, program, *words = sys.argv[1:]
    arm(place, int(nth), float(delay_s), signal.Signals[name])
    if program == "luthier":
        from luthier.cli.main import main as run
    else:
        run = importlib.import_module(f"luthier.cli.scripts.{program}").main
    return int(run(words))


if __name__ == "__main__":
    sys.exit(main())
