"""Stop long work between its steps."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from luthier.errors import CancelledError

Cancel = Event | Callable[[], bool]


def stop_if_asked(cancel: Cancel | None) -> None:
    """Raise `CancelledError` once the event is set, or the function says so."""
    if cancel is None:
        return
    if cancel.is_set() if isinstance(cancel, Event) else cancel():
        raise CancelledError("the work was stopped on request; nothing was written.")
