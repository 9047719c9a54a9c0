"""Connections that wait only so long for headers and readers, as many as the system allows."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 10.0
READER_S = 120.0


class PatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, which by itself would wait for ever: for the end of the headers,
    and for a reader who does not take what was asked for.
    """

    _deadline: asyncio.TimerHandle | None = None
    _reader_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on, or no more: the headers are complete."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        self._rest()
        self._reader_rests()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes less than there is for it: begin to wait."""
        super().pause_writing()
        if self._reader_deadline is None:
            self._reader_deadline = self.loop.call_later(READER_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It took enough."""
        self._reader_rests()
        super().resume_writing()

    def _reader_rests(self) -> None:
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # a request is here
            self._rest()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_S, self.transport.close)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def allow_open_files(wanted: int) -> None:
    """Let this process hold `wanted` files and connections, as far as the system agrees."""
    if find_spec("resource") is None:  # Windows knows no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most: Any = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
