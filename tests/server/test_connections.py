"""Who speaks slowly does not hold a place; who speaks is served."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import Request
from test_server_live import serving

from luthier.server.http import body, connections
from luthier.server.http.auth import Keys
from luthier.server.http.connections import allow_open_files
from luthier.server.http.errors import Refusal
from luthier.server.http.multipart import Limits

HEADERS = b"POST /release_task HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    folder = tmp_path_factory.mktemp("slow")
    with serving(folder / "home", folder / "log") as (address, _):
        yield "127.0.0.1", int(address.rpartition(":")[2])


def closed_after(connection: socket.socket, drip: bytes, pause_s: float) -> float:
    """Seconds until the server hangs up on someone who sends `drip` now and then."""
    started = time.monotonic()
    connection.settimeout(pause_s)
    while time.monotonic() - started < 2 * connections.HEADERS_S:
        try:
            connection.sendall(drip)
            if not connection.recv(100):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - started


def test_headers_that_never_end_are_not_waited_for(place: tuple[str, int]) -> None:
    with socket.create_connection(place) as silent, socket.create_connection(place) as slow:
        slow.sendall(HEADERS)
        seconds = closed_after(slow, b"X-More: 1\r\n", 0.5)
        assert seconds == pytest.approx(connections.HEADERS_S, abs=4)
        silent.settimeout(1)
        assert silent.recv(1) == b""  # its time is over as well


def test_a_second_request_may_not_dawdle_either(place: tuple[str, int]) -> None:
    with socket.create_connection(place) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in connection.recv(10_000)
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert closed_after(connection, b"A: b\r\n", 0.5) < connections.HEADERS_S + 4


def test_a_hundred_dawdlers_keep_nobody_out(place: tuple[str, int]) -> None:
    dawdlers = [socket.create_connection(place) for _ in range(100)]
    for dawdler in dawdlers:
        dawdler.sendall(HEADERS + b"Content-Length: 100\r\n\r\n{")
    with socket.create_connection(place) as connection:
        connection.settimeout(5)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in connection.recv(10_000)
    for dawdler in dawdlers:
        dawdler.close()


def test_the_limit_of_files_is_raised_as_far_as_the_system_agrees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 2000))
    allow_open_files(1000)
    allow_open_files(5000)
    allow_open_files(100)
    assert made == [(1000, 2000), (2000, 2000)]


def test_a_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_CHUNK_WAIT_S", 0.3)

    async def drip() -> dict[str, object]:
        await asyncio.sleep(0.1)
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def receive_all() -> None:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        limits = Limits(1000, 1, 1000)
        async with body.received(Request(scope, drip), Keys(()), limits, Path()):
            raise AssertionError("it never ends")

    started = time.monotonic()
    with pytest.raises(Refusal, match="too slowly"):
        asyncio.run(receive_all())
    assert time.monotonic() - started < 5
