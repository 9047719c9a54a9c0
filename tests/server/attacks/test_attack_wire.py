"""What only bytes on a connection can do: lengths that lie, lines that drip, readers that stop."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.http import body as body_of_requests
from luthier.server.http import connections
from luthier.server.http.connections import PatientProtocol
from serving import KEY, Running, running_server

HEAD = b"POST /release_task HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
SONG = b'{"prompt":"x"}'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that plays so little that a test never waits for it."""
    with running_server(tmp_path_factory.mktemp("wire"), "--queue-limit", "1000") as running:
        yield running


def place(running: Running) -> tuple[str, int]:
    return "127.0.0.1", int(running.address.rpartition(":")[2])


def answer(running: Running, data: bytes, *, patience_s: float = 3.0) -> bytes:
    """Everything that comes back until the server closes or says nothing for a while."""
    with socket.create_connection(place(running)) as connection:
        connection.settimeout(patience_s)
        connection.sendall(data)
        found = b""
        try:
            while more := connection.recv(65536):
                found += more
                if b"\r\n\r\n" in found and patience_s > 1:
                    connection.settimeout(0.3)
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def statuses(found: bytes) -> list[int]:
    return [int(part[:3]) for part in found.split(b"HTTP/1.1 ")[1:]]


def is_alive(running: Running) -> bool:
    return statuses(answer(running, GET)) == [200] and running.process.poll() is None


def with_length(length: bytes, body: bytes = SONG) -> bytes:
    return HEAD + b"Content-Length: " + length + b"\r\n\r\n" + body


LYING = {
    "negative": with_length(b"-1"),
    "signed": with_length(b"+14"),
    "hexadecimal": with_length(b"0x0e"),
    "with a dot": with_length(b"14.0"),
    "other digits": with_length("\u0661\u0664".encode()),
    "two that differ": HEAD + b"Content-Length: 14\r\nContent-Length: 3\r\n\r\n" + SONG,
    "a list that differs": with_length(b"14, 3"),
    "with a space before the colon": HEAD + b"Content-Length : 14\r\n\r\n" + SONG,
    "both lengths": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"e\r\n" + SONG + b"\r\n0\r\n\r\n",
    "both lengths, the other way": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 99"
                    b"\r\n\r\ne\r\n" + SONG + b"\r\n0\r\n\r\n",
    "an unknown coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"0\r\n\r\n",
    "a coding in disguise": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a chunk of negative size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    "a chunk that is too long": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\n" + SONG + b"\r\n",
    "a chunk's size without end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 100_000,
    "two hosts": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "a null byte in a header": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\0c\r\n\r\n",
    "a bare line end in a header": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\rC: d\r\n\r\n",
    "a space in a header's name": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nA b: c\r\n\r\n",
    "a header of 1 MB": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"b" * 2**20,
    "100,000 headers": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 100_000,
    "an address of 1 MB": b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "no protocol": b"GET /health\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a proxy's line": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + GET,
}  # fmt: skip


@pytest.mark.parametrize("data", LYING.values(), ids=LYING.keys())
def test_requests_that_lie(running: Running, data: bytes) -> None:
    """It is refused, and nothing behind it is taken for a second request."""
    smuggled = answer(running, data + b"\r\n" + GET.replace(b"/health", b"/v1/capabilities"))
    found = statuses(smuggled)
    assert len(found) <= 2, smuggled
    assert all(400 <= status < 600 and status != 500 for status in found), smuggled
    assert b"recommended" not in smuggled  # the answer of the second
    assert is_alive(running)


def test_a_body_longer_than_it_said_is_cut_there(running: Running) -> None:
    found = answer(running, with_length(b"14", SONG + b"GET /evil"))
    assert statuses(found)[0] == 200
    assert b"evil" not in found


def test_a_body_that_says_it_is_huge_is_refused_before_it_comes(running: Running) -> None:
    for length in (b"99999999999", b"9" * 18):
        found = answer(running, with_length(length, b""))
        assert statuses(found) == [413], found


def test_an_endless_chunked_body_is_refused_at_the_limit(running: Running) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    found = answer(running, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 40)
    assert statuses(found)[:1] in ([413], [])  # or it hung up while we were still sending
    assert is_alive(running)


def test_whoever_waits_for_a_nod_gets_none_with_a_wrong_key(tmp_path: Path) -> None:
    with running_server(tmp_path, key=KEY) as locked:
        head = HEAD + b"Expect: 100-continue\r\nContent-Length: 14\r\n"
        assert statuses(answer(locked, head + b"Authorization: wrong\r\n\r\n")) == [401]
        # Whatever a client says that it stands for, the address that guesses is the one it has.
        for n in range(25):
            forged = f"X-Forwarded-For: 10.0.0.{n}\r\nX-Real-IP: 10.0.0.{n}\r\n".encode()
            last = answer(locked, GET.replace(b"/health", b"/v1/stats")[:-2] + forged
                          + b"Authorization: guess\r\nConnection: close\r\n\r\n")  # fmt: skip
        assert statuses(last) == [429]


@pytest.mark.parametrize("origin", [b"", b"Origin: https://evil.example\r\n"])
def test_no_web_sockets(running: Running, origin: bytes) -> None:
    upgrade = (b"GET /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
               b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
               b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + origin + b"\r\n")  # fmt: skip
    assert 101 not in statuses(answer(running, upgrade))
    assert 101 not in statuses(answer(running, upgrade.replace(b"websocket", b"h2c")))


@pytest.mark.parametrize(
    "target",
    [
        *(b"//evil.example/health", b"http://evil.example/health", b"/\\evil.example", b"*"),
        *(b"/health;/../v1/tasks", b"/./health", b"/%2e%2e/%2e%2e/etc/passwd", b"/%00", b"/%ff"),
    ],
)
def test_addresses_in_disguise(running: Running, target: bytes) -> None:
    found = answer(running, GET.replace(b"/health", target))
    (status,) = statuses(found)
    assert status in (400, 404, 405)
    assert b"\r\nlocation:" not in found.lower()  # no redirect to an address of theirs


def test_header_lines_cannot_be_put_into_an_answer(running: Running) -> None:
    evil = b"%0d%0aX-Evil:%201%0d%0a%0d%0a<script>"
    for path in (b"/v1/audio?path=" + evil, b"/v1/tasks/" + evil, b"/studio/" + evil + b"/x"):
        found = answer(running, GET.replace(b"/health", path))
        assert b"x-evil" not in found.lower().partition(b"\r\n\r\n")[0]
    head = HEAD + b"Idempotency-Key: a%0d%0aX-Evil: 1\r\nOrigin: http://localhost\r\n"
    found = answer(running, head + b"Content-Length: 14\r\n\r\n" + SONG)
    assert b"x-evil" not in found.lower().partition(b"\r\n\r\n")[0]


def test_a_line_of_the_log_cannot_be_forged(running: Running) -> None:
    forged = b'/%0a{"level":"error","what":"forged"}%1b[2J%0d%0a'
    answer(running, GET.replace(b"/health", forged))
    answer(running, b"\x1b[31mFORGED\n{}\r\n\r\n")
    answer(running, GET[:-2] + b'User-Agent: \x1b[2J{"level":"forged"}\r\n\r\n')
    lines = running.log.read_text().splitlines()
    assert lines
    for line in lines:
        row = json.loads(line)
        assert row["level"] != "forged"
        assert row["what"] != "forged"
        assert "\x1b" not in line


def test_a_body_that_drips_does_not_hold_a_place(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In process, with a second for half a minute: a letter now and then, for ever."""
    import anyio

    monkeypatch.setattr(body_of_requests, "_CHUNK_WAIT_S", 1.0)
    app = create_app(config)
    said: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        await anyio.sleep(0.2)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: dict[str, object]) -> None:
        said.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/release_task", "headers": headers,
             "query_string": b"", "client": ("127.0.0.1", 1), "http_version": "1.1"}  # fmt: skip

    async def run() -> None:
        with anyio.fail_after(20):
            await app(scope, receive, send)  # type: ignore[arg-type]

    anyio.run(run)
    assert said[0]["status"] == 400
    assert b"too slowly" in said[1]["body"]  # type: ignore[operator]
    app.state.service.queue.close()


def test_a_reader_that_stops_reading_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that nobody empties: the protocol itself, on a loop of its own."""
    import asyncio

    from uvicorn import Config
    from uvicorn.server import ServerState

    monkeypatch.setattr(connections, "READER_S", 0.3)

    async def endless(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        while True:
            body = {"type": "http.response.body", "body": bytes(65536), "more_body": True}
            await send(body)  # type: ignore[operator]
            await asyncio.sleep(0)

    async def run() -> float:
        config = Config(endless, log_config=None)  # type: ignore[arg-type]
        config.load()
        state, loop = ServerState(), asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: PatientProtocol(config, state, {}, loop), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        started = time.monotonic()
        while state.connections or time.monotonic() - started < 0.1:
            await asyncio.sleep(0.05)
            assert time.monotonic() - started < 10, "it is still held"
        writer.close()
        server.close()
        return time.monotonic() - started

    assert asyncio.run(run()) > 0.2
