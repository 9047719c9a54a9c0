"""The server under load, on this machine: submissions, streams, memory, overhead, start.

    python benchmarks/server_load.py                     everything, into benchmarks/results
    python benchmarks/server_load.py --only submissions start

Every number is of a real `luthier serve` with mini. The tasks of `memory` name a file that is no
audio, so that a real worker claims, opens and fails each within milliseconds: what they exercise is
the interface, the queue and the worker's round, not the model.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from common import RESULTS, write_result
from traffic import follow, post, steadily

PIECE = {"prompt": "calm piano", "audio_duration": 10, "batch_size": 1, "audio_format": "wav"}
LONG = PIECE | {"audio_duration": 120, "inference_steps": 200}


class Played(NamedTuple):
    """Seconds from a request to the last byte of its music, and those of a worker on it."""

    whole: float
    worker: float


class Server(NamedTuple):
    """A server that runs: its address and its process."""

    address: str
    process: subprocess.Popen[str]

    def get(self, path: str) -> Any:
        """The data of an answer."""
        with urllib.request.urlopen(self.address + path) as answer:
            return json.load(answer)["data"]

    def send(self, path: str, value: dict[str, Any]) -> Any:
        """The data of an answer to a JSON body."""
        headers = {"Content-Type": "application/json"}
        body = json.dumps(value).encode()
        with urllib.request.urlopen(
            urllib.request.Request(self.address + path, body, headers)
        ) as answer:
            return json.load(answer)["data"]

    def played(self, value: dict[str, Any]) -> Played:
        """Send a request, follow its task, and fetch its music."""
        started = time.perf_counter()
        identity = self.send("/release_task", value)["task_id"]
        with urllib.request.urlopen(f"{self.address}/v1/tasks/{identity}/events") as events:
            *_, last = (line for line in events if line.startswith(b"data: "))
        task = json.loads(last.removeprefix(b"data: "))
        if task["state"] != "succeeded":
            sys.exit(f"a task has failed: {task['error']}")
        with urllib.request.urlopen(self.address + task["results"][0]["file"]) as answer:
            answer.read()
        return Played(time.perf_counter() - started, task["ended"] - task["started"])

    @property
    def rss_mb(self) -> float:
        """Memory of the process that answers."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1000


@contextmanager
def serving(*words: str) -> Iterator[Server]:
    """A server with mini and a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--home", home, *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        try:
            yield Server(process.stdout.readline().split()[2], process)
        finally:
            process.terminate()
            process.wait(60)


def wait_until(is_so: Callable[[], bool], patience_s: float = 600) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit("it takes too long")
        time.sleep(0.05)


def submissions(rounds: int = 5) -> dict[str, Any]:
    """Submissions at a steady rate while a worker plays, several times, the middle one first."""
    found = sorted((burst() for _ in range(rounds)), key=_slowest_ms)
    return found[rounds // 2] | {"p99_ms_of_each_round": [_slowest_ms(one) for one in found]}


def _slowest_ms(found: dict[str, Any]) -> float:
    return float(found["up_to_the_limit"]["ms"]["p99"])


def burst(rate: float = 500, seconds: float = 10) -> dict[str, Any]:
    """A server's queue filled at a steady rate, and asked for more when it is full."""
    limit = int(rate * seconds)
    with serving("--queue-limit", str(limit)) as server:
        playing = server.send("/release_task", LONG)["task_id"]
        wait_until(lambda: server.get(f"/v1/tasks/{playing}")["progress"] > 0.5)
        request = post(server.address, "/release_task", PIECE)
        within = asyncio.run(
            steadily(server.address, itertools.repeat(request), rate=rate, seconds=seconds)
        )
        beyond = asyncio.run(
            steadily(server.address, itertools.repeat(request), rate=rate, seconds=2)
        )
        kept = server.get("/v1/stats")["jobs"]
        return {
            "rate": rate,
            "up_to_the_limit": within.summary(),
            "beyond_it": beyond.summary(),
            "tasks_on_record": kept["total"],
            "still_playing": server.get(f"/v1/tasks/{playing}")["state"] == "running",
        }


def streams(count: int = 1000) -> dict[str, Any]:
    """Followers of one task, all at the same time, to its end."""
    with serving() as server:
        server.played(PIECE)
        first = server.send("/release_task", LONG)["task_id"]
        task = server.send("/release_task", PIECE)["task_id"]
        before = server.rss_mb
        opened: list[float] = []

        async def all_of_them() -> list[int]:
            path = f"/v1/tasks/{task}/events"
            crew = [asyncio.create_task(follow(server.address, path, opened)) for _ in range(count)]
            while len(opened) < count:
                await asyncio.sleep(0.05)
            during.append(server.rss_mb)
            await asyncio.to_thread(server.send, f"/v1/tasks/{first}/cancel", {})
            return list(await asyncio.gather(*crew))

        during: list[float] = []
        events = asyncio.run(all_of_them())
        return {
            "streams": count,
            "ended_with_the_task": sum(number > 1 for number in events),
            "events": {"least": min(events), "most": max(events)},
            "first_event_s": round(max(opened), 2),
            "rss_mb": {"before": round(before, 1), "open": round(during[0], 1)},
        }


def memory(tasks: int = 20_000, rate: float = 150) -> dict[str, Any]:
    """The memory of the process that answers, over many tasks that fail fast."""
    with tempfile.TemporaryDirectory() as root:
        wrong = Path(root) / "wrong.wav"
        wrong.write_bytes(b"no sound at all")
        words = ("--audio-root", root, "--queue-limit", str(tasks))
        with serving(*words) as server:
            body = PIECE | {"task_type": "cover", "src_audio_path": str(wrong)}
            request = post(server.address, "/release_task", body)
            samples = []
            for _ in range(10):
                share = asyncio.run(
                    steadily(
                        server.address,
                        itertools.repeat(request),
                        rate=rate,
                        seconds=tasks / 10 / rate,
                    )
                )
                if set(share.statuses) != {200}:
                    sys.exit(f"refused: {share.statuses}")
                samples.append(round(server.rss_mb, 1))
            wait_until(lambda: server.get("/v1/stats")["jobs"]["failed"] == tasks, 1800)
            samples.append(round(server.rss_mb, 1))
            files = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
            threads = len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
            return {
                "tasks": tasks,
                "rss_mb_at_each_tenth_and_the_end": samples,
                "open_files_at_the_end": files,
                "threads_at_the_end": threads,
            }


def overhead(repeats: int = 61) -> dict[str, Any]:
    """The same request over HTTP and in this process, by turns, warm."""
    from luthier.music.playing.output_file import write_generated
    from luthier.music.playing.pipeline import MusicPipeline
    from luthier.music.request import request_from

    pipeline = MusicPipeline()
    request = request_from({"prompt": "calm piano", "duration_s": 10, "seed": 1})

    def here(folder: Path) -> float:
        started = time.perf_counter()
        write_generated(folder / "1.wav", pipeline, pipeline.generate(request))
        return time.perf_counter() - started

    with serving() as server, tempfile.TemporaryDirectory() as name:
        asked = PIECE | {"seed": 1}
        here(Path(name)), server.played(asked)
        pairs = [(here(Path(name)), server.played(asked)) for _ in range(repeats)]
    inside = statistics.median(alone for alone, _ in pairs)
    outside = statistics.median(served.whole for _, served in pairs)
    more = statistics.median(served.whole / alone for alone, served in pairs) - 1
    around = statistics.median(served.whole - served.worker for _, served in pairs)
    return {
        "repeats": repeats,
        "in_process_s": round(inside, 4),
        "over_http_s": round(outside, 4),
        "overhead_percent": round(100 * more, 2),
        "around_the_worker_s": round(around, 4),
        "around_the_worker_percent": round(100 * around / inside, 2),
        "pairs_s": [[round(alone, 4), round(served.whole, 4)] for alone, served in pairs],
    }


def start(repeats: int = 5) -> dict[str, Any]:
    """From the command to the first answer, and to the first ten seconds of music."""
    health, music = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        with serving() as server:
            server.get("/health")
            health.append(round(time.perf_counter() - started, 3))
            server.played(PIECE)
            music.append(round(time.perf_counter() - started, 3))
    return {"health_s": health, "first_music_s": music}


PARTS = {part.__name__: part for part in (start, overhead, submissions, streams, memory)}


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found = {}
    for name in args.only:
        found[name] = PARTS[name]()
        print(json.dumps({name: found[name]}, indent=2), flush=True)
    write_result(args.out, "server_load", found)


if __name__ == "__main__":
    main()
