"""How every command stops when it gets Ctrl-C or SIGTERM.

The signal becomes `Stopped` in the main thread, so that whatever was under way is tidied up as
after an error. Native code (a graph that plays, a backward pass) lets no signal through before it
returns: a thread beside it waits for `PATIENCE_S`, then does the last acts itself and ends the
process. A second signal ends the process at once, in the same way.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_S = 7.0  # for the main thread, from the first signal on
_LAST_ACTS_S = 1.5  # for tidying up without it
_SAME_S = 0.5  # signals as near as this are one request: `timeout` sends two

_last_acts: list[Callable[[], object]] = []
_places: list[str] = []


class Stopped(KeyboardInterrupt):
    """Somebody asked the command to stop.

    Attributes:
        signal: which one it was.
        place: what was under way, e.g. "the stage train"; "" where nobody has said.
    """

    def __init__(self, number: int, place: str = "") -> None:
        super().__init__(number)
        self.signal = number
        self.place = place


def exit_code(error: KeyboardInterrupt) -> int:
    """What a command exits with: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (error.signal if isinstance(error, Stopped) else int(signal.SIGINT))


@contextmanager
def last_act(act: Callable[[], object]) -> Iterator[None]:
    """Within the block `act` is called where the process has to end without its main thread.

    It runs in another thread while the main one is held up somewhere in the block.
    """
    _last_acts.append(act)
    try:
        yield
    finally:
        _last_acts.remove(act)


@contextmanager
def under_way(place: str) -> Iterator[None]:
    """Within the block a stop says that it was in `place`."""
    _places.append(place)
    try:
        yield
    finally:
        _places.pop()


@contextmanager
def heed_signals(last_words: Callable[[Stopped], object]) -> Iterator[None]:
    """Within the block the signals raise `Stopped`; outside the main thread nothing is changed.

    A signal that is ignored stays so: that is how shells start what runs in the background.

    Args:
        last_words: called before the process ends without its main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not heard:  # a second one is the watch's
            heard.append(number)
            raise Stopped(number, _place())

    before: dict[int, Any] = {n: signal.getsignal(n) for n in SIGNALS}
    watch = _Watch(last_words)
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        watch.end()


class _Watch:
    """Hears of the signals even while the main thread is in native code."""

    def __init__(self, last_words: Callable[[Stopped], object]) -> None:
        self._last_words = last_words
        self._ear, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)
        self._before = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Listen no longer."""
        signal.set_wakeup_fd(self._before)
        self._mouth.close()
        self._thread.join()
        self._ear.close()

    def _listen(self) -> None:
        with suppress(AttributeError):  # Windows: signals come to the main thread only
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        first, at = 0, 0.0
        while True:
            left = max(0.0, at + PATIENCE_S - time.monotonic()) if first else None
            if not select.select([self._ear], [], [], left)[0]:
                self._leave(first)
            numbers = self._ear.recv(64)
            if not numbers:
                return
            for number in numbers:
                if number in SIGNALS and not first:
                    first, at = number, time.monotonic()
                elif number in SIGNALS and time.monotonic() - at > _SAME_S:
                    self._leave(first)

    def _leave(self, number: int) -> None:
        """Do the last acts, say the last words, and end this process."""
        helper = threading.Thread(target=_tidy, daemon=True)
        try:
            helper.start()
            helper.join(_LAST_ACTS_S)
            self._last_words(Stopped(number, _place()))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(128 + number)


def _tidy() -> None:
    for act in reversed(_last_acts):
        with suppress(OSError):
            act()


def _place() -> str:
    return _places[-1] if _places else ""


@dataclass
class StopRequest:
    """Whether somebody asked the run to stop, and by which signal (0: nobody)."""

    signal: int = 0
    _raises: bool = False
    _at: float = 0.0

    def __bool__(self) -> bool:
        return self.signal != 0

    def may_cut_short(self, work: Callable[[], object]) -> None:
        """Do `work`, which nobody needs once a stop is asked for: then it ends where it is."""
        self._raises = True
        try:
            if not self:
                work()
        except Stopped:
            pass
        finally:
            self._raises = False

    def note(self, number: int) -> bool:
        """Note a signal; whether it is another request than the one that is noted."""
        if self.signal:
            return time.monotonic() - self._at > _SAME_S
        self.signal, self._at = number, time.monotonic()
        if self._raises:
            raise Stopped(number, _place())
        return False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block the first signal is noted only: the work ends where that can be resumed.

    A second one is what it was outside. Outside the main thread nothing can be caught.
    """
    asked = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        if asked.note(number):
            signal.signal(number, before[number])
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block, which is short, a signal waits; at its end it stops the command."""
    with stop_requests() as asked:
        yield
    if asked:
        raise Stopped(asked.signal, _place())


@contextmanager
def own_signals() -> Iterator[None]:
    """Keep what this process does at a signal: Ray puts its own in its place."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
