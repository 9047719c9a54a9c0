"""The one progress display: a bar on a terminal, plain lines elsewhere, JSON for programs.

All of it goes to standard error, so that standard output stays the result.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, TextIO

from luthier.stopping import last_act

Style = Literal["auto", "bar", "plain", "json", "none"]
_PLAIN_INTERVAL_S = 5.0


class Task(Protocol):
    """One piece of long work."""

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        """Count `steps` as done; `note` is shown beside the bar (a loss, a file name)."""


class _BarTask:
    def __init__(self, title: str, total: float) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.progress = Progress(
            TextColumn("{task.description:<12}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            # No markup: a file called "take [/2].wav" is not a closing tag.
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(file=sys.stderr),
        )
        self.progress.start()
        self.identity = self.progress.add_task(title, total=total, note="")

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        self.progress.advance(self.identity, steps)
        if note is not None:
            self.progress.update(self.identity, note=note)

    def finish(self) -> None:
        self.progress.stop()


class _LineTask:
    def __init__(self, title: str, total: float, stream: TextIO, as_json: bool) -> None:
        self.title, self.total, self.stream, self.as_json = title, total, stream, as_json
        self.done, self.note = 0.0, ""
        self.started = self.printed = time.monotonic()

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        self.done += steps
        self.note = self.note if note is None else note
        if time.monotonic() - self.printed >= _PLAIN_INTERVAL_S:
            self._print()

    def finish(self) -> None:
        self._print()

    def _print(self) -> None:
        self.printed = time.monotonic()
        elapsed = self.printed - self.started
        eta = elapsed / self.done * max(0.0, self.total - self.done) if self.done else None
        if self.as_json:
            row = {"task": self.title, "done": self.done, "total": self.total, "note": self.note}
            times = {"elapsed_s": round(elapsed, 1), "eta_s": eta and round(eta, 1)}
            line = json.dumps(row | times)
        else:
            left = f", {eta:.0f} s left" if eta else ""
            count = f"{self.done:g}/{self.total:g}"
            line = f"{self.title}: {count} after {elapsed:.0f} s{left} {self.note}"
        print(line.rstrip(), file=self.stream, flush=True)


class _SilentTask:
    def advance(self, steps: float = 1, note: str | None = None) -> None:
        pass

    def finish(self) -> None:
        pass


class Display:
    """Shows long work in one style; hand it to whatever takes long.

    Args:
        style: "auto" takes a bar on a terminal and plain lines elsewhere.
    """

    def __init__(self, style: Style = "auto") -> None:
        if style == "auto":
            style = "bar" if sys.stderr.isatty() else "plain"
        self.style = style

    @contextmanager
    def task(self, title: str, total: float) -> Iterator[Task]:
        """Show `title` until the block ends; `advance` what this yields, `total` steps in all."""
        task: _BarTask | _LineTask | _SilentTask
        if self.style == "bar":
            task = _BarTask(title, total)
        elif self.style == "none":
            task = _SilentTask()
        else:
            task = _LineTask(title, total, sys.stderr, as_json=self.style == "json")
        try:
            with last_act(task.finish):  # a bar hides the terminal's cursor
                yield task
        finally:
            task.finish()

    def say(self, line: str) -> None:
        """One plain line between tasks; silent in the styles for programs."""
        if self.style in ("bar", "plain"):
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - this module is the display


SILENT = Display("none")
