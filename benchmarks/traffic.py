"""A client that costs little: requests at a steady rate over kept connections, timed one by one."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Answers:
    """What came back: statuses, and seconds from the moment each request was due."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    took_s: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Rate, statuses and percentiles, milliseconds."""
        times = sorted(self.seconds)
        shown = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {
            "requests": len(times),
            "per_second": round(len(times) / self.took_s, 1),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "ms": {
                name: round(1000 * times[min(len(times) - 1, int(share * len(times)))], 2)
                for name, share in shown.items()
            },
        }


def post(address: str, path: str, value: dict[str, Any]) -> bytes:
    """A request with a JSON body, as it goes over the wire."""
    body = json.dumps(value).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def steadily(
    address: str, requests: Iterator[bytes], *, rate: float, seconds: float, connections: int = 32
) -> Answers:
    """Send `rate` requests a second for so long, whether the answers keep up or not.

    A time counts from when a request was due, so that waiting for a free connection is in it.
    """
    answers, due = Answers(), asyncio.Queue[float | None]()
    place = urlsplit(address)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        while (moment := await due.get()) is not None:
            writer.write(next(requests))
            status, body = await _answer(reader)
            answers.seconds.append(time.perf_counter() - moment)
            answers.statuses[status] += 1
            answers.bodies.append(body)
        writer.close()

    crew = [asyncio.create_task(connection()) for _ in range(connections)]
    started = time.perf_counter()
    for index in range(int(rate * seconds)):
        moment = started + index / rate
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        due.put_nowait(moment)
    for _ in crew:
        due.put_nowait(None)
    await asyncio.gather(*crew)
    answers.took_s = time.perf_counter() - started
    return answers


async def follow(address: str, path: str, opened: list[float]) -> int:
    """Follow a stream of events to its end; return how many came.

    Args:
        opened: takes the seconds until the first one.
    """
    place = urlsplit(address)
    started, events = time.perf_counter(), 0
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    while line := await reader.readline():
        if line.startswith(b"data: "):
            events += 1
            if events == 1:
                opened.append(time.perf_counter() - started)
        if line == b"0\r\n":
            break
    writer.close()
    return events


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)
