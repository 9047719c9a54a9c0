"""Curation that is killed: the whole of it, one of its processes, again and again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ctrl_c import heed_ctrl_c
from deadly import DeadlyOncePath, DeadlyPath, StuckOncePath
from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.dataset.curate import CurateSettings, curate, plan
from luthier.dataset.curation_log import LEDGER_NAME
from luthier.dataset.local_pool import run_local
from luthier.files import sha256_of

RATE, SECONDS = 24000, 2
SETTINGS = CurateSettings(min_duration=0, sample_rate=24000, bitrate=64)
FLAGS = ("--min-duration", "0", "--sample-rate", "24000", "--bitrate", "64", "--workers", "2")


def recordings(folder, count):
    time_s = np.arange(SECONDS * RATE) / RATE
    for i in range(count):
        tone = 0.4 * np.sin(2 * np.pi * (110 + 20 * i) * time_s) * (1.2 + np.sin(9 * time_s)) / 2
        write_audio(folder / f"{i:02}.wav", np.tile(tone, (2, 1)).astype(np.float32), RATE)
    return folder


def start(source, out):
    return subprocess.Popen(
        [sys.executable, "-m", "luthier", "curate", str(source), "--out", str(out), *FLAGS, "-q"],
        start_new_session=True,
        stderr=subprocess.PIPE,
        preexec_fn=heed_ctrl_c,
    )


def children(pid):
    """The worker processes of `pid`."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [c for c in map(int, found) if b"spawn_main" in command(c)]
    except (FileNotFoundError, ProcessLookupError):
        return []


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def wait_until(condition, timeout_s=120.0):
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "that took too long"
        time.sleep(0.005)


def rows_of(out):
    path = out / LEDGER_NAME
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line)["row"])
        except ValueError:
            continue  # torn by an earlier kill
    return rows


def assert_whole(out, count):
    """Every track is there once, decodes, and is what the ledger and the report say."""
    document = json.loads((out / "curation.json").read_text())
    assert document["processed"] == count
    rows = {row["source"]: row for row in rows_of(out)}
    for row in document["results"]:
        path = Path(row["output_path"])
        assert sha256_of(path) == row["output_sha256"] == rows[row["source"]]["output_sha256"]
        samples, rate = read_audio(path)
        assert samples.shape[1] / rate == pytest.approx(SECONDS, abs=0.1)
    expected = {Path(row["output_path"]).name for row in document["results"]}
    assert {p.name for p in out.iterdir()} == expected | {
        "curation.json",
        "run.json",
        LEDGER_NAME,
    }


def kill(process, out, rows, after_s):
    """Kill a run once it works and its ledger has so many `rows`."""
    wait_until(lambda: len(children(process.pid)) == 2 or process.poll() is not None)
    wait_until(lambda: len(rows_of(out)) >= rows or process.poll() is not None)
    time.sleep(after_s)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    # Nobody is left to write behind the back of the next run.
    wait_until(lambda: not any(b"spawn_main" in command(w) for w in workers))


def kill_and_go_on(tmp_path, kills, count):
    rng = random.Random(kills)
    source, out = recordings(tmp_path / "in", count), tmp_path / "out"
    finished: list[str] = []
    for _ in range(kills):
        process = start(source, out)
        goal = len(finished) + rng.randint(0, 2)
        kill(process, out, rows=goal, after_s=rng.random() * 0.3)
        finished = [row["source"] for row in rows_of(out)]
    last = start(source, out)
    _, said = last.communicate(timeout=300)
    assert last.returncode == 0, said
    assert_whole(out, count)
    document = json.loads((out / "curation.json").read_text())
    unchanged = {row["source"] for row in document["results"] if row["unchanged"]}
    assert set(finished) <= unchanged
    encoded = [row["source"] for row in rows_of(out)]
    assert len(encoded) == len(set(encoded)), "something was encoded twice"


def test_killed_twice_at_random_moments(tmp_path):
    kill_and_go_on(tmp_path, kills=2, count=6)


@pytest.mark.slow
def test_killed_ten_times_at_random_moments(tmp_path):
    kill_and_go_on(tmp_path, kills=10, count=30)


def test_a_killed_worker_costs_nothing(tmp_path):
    source, out = recordings(tmp_path / "in", 6), tmp_path / "out"
    process = start(source, out)
    wait_until(lambda: rows_of(out) or process.poll() is not None)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert_whole(out, 6)


def test_a_file_that_kills_its_worker_has_failed_and_no_other(tmp_path):
    jobs = plan(recordings(tmp_path / "in", 5), tmp_path / "out", SETTINGS)
    kinds = {1: DeadlyPath, 3: DeadlyOncePath}
    jobs = [
        type(job)(kinds.get(i, Path)(job.source), job.output, job.settings)
        for i, job in enumerate(jobs)
    ]
    rows = {}
    run_local(jobs, 2, lambda job, result: rows.__setitem__(job.source.name, result))
    assert len(rows) == 5
    assert rows["01.wav"].reason.startswith("worker_killed: ")
    assert "died 2 times" in rows["01.wav"].reason
    assert [row.status for row in rows.values()].count("success") == 4


def test_one_that_is_stuck_is_not_waited_for_when_another_was_killed(tmp_path):
    """As after a kill within the lock under which workers hand over their results."""
    jobs = plan(recordings(tmp_path / "in", 3), tmp_path / "out", SETTINGS)
    kinds = {0: StuckOncePath, 1: DeadlyOncePath}
    jobs = [
        type(job)(kinds.get(i, Path)(job.source), job.output, job.settings)
        for i, job in enumerate(jobs)
    ]
    rows, started = {}, time.monotonic()
    run_local(jobs, 2, lambda job, result: rows.__setitem__(job.source.name, result))
    assert time.monotonic() - started < 300
    assert [row.status for row in rows.values()] == ["success"] * 3


def test_ctrl_c_while_a_result_is_recorded_does_not_lose_it(tmp_path):
    jobs = plan(recordings(tmp_path / "in", 3), tmp_path / "out", SETTINGS)
    interrupted, rows = [], []

    def record(job, result):
        if not interrupted:
            interrupted.append(job)
            raise KeyboardInterrupt
        rows.append(job)

    with pytest.raises(KeyboardInterrupt):
        run_local(jobs, 2, record)
    assert interrupted[0] in rows
    assert len(rows) == len({job.source for job in rows})


def test_ctrl_c_while_the_processes_start_breaks_nothing(tmp_path):
    """It reaches them too, before they can ignore it."""
    source, out = recordings(tmp_path / "in", 4), tmp_path / "out"
    process = start(source, out)
    wait_until(lambda: children(process.pid) or process.poll() is not None)
    for worker in children(process.pid):
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
    workers = set(children(process.pid))
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert workers
    assert_whole(out, 4)
    assert len(rows_of(out)) == 4  # nothing was done twice


def test_ctrl_c_keeps_what_was_in_work(tmp_path):
    source, out = recordings(tmp_path / "in", 12), tmp_path / "out"
    process = start(source, out)
    wait_until(lambda: rows_of(out) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"stopped" in said
    audio = {p.stem for p in out.iterdir() if p.suffix == ".mp3"}
    assert audio == {Path(row["source"]).stem for row in rows_of(out)}
    assert len(json.loads((out / "curation.json").read_text())["results"]) == len(audio)
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    report = curate(source, out, SETTINGS, workers=1)
    assert report.count("success") == 12
    assert sum(row.unchanged for row in report.results) == len(audio)
