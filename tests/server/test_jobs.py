"""Jobs: luthier's commands as processes of their own, below the data roots, through restarts."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from luthier.audio.encode import write_audio
from luthier.cli.main import main
from luthier.errors import RequestError
from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.jobs.commands import COMMANDS, Roots, words_of
from luthier.server.jobs.jobs import Job, Jobs
from luthier.server.jobs.log import progress_of, tail
from luthier.server.jobs.process import Process, environment, is_running
from luthier.server.jobs.runner import JobRunner
from luthier.server.queue.database import Store
from luthier.server.schemas.jobs import Command

BASE = "http://127.0.0.1:8001"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "raw").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    times = np.arange(24000 * 3) / 24000
    sound = (0.3 * np.sin(2 * np.pi * 220 * times) * (1 + np.sin(4 * times)) / 2).astype(np.float32)
    write_audio(folder / "raw" / "-rf.wav", np.stack([sound, sound]), 24000)
    return folder


@contextmanager
def training(config: ServerConfig, root: Path) -> Iterator[TestClient]:
    app = create_app(replace(config, data_roots=(root,)))
    with TestClient(app, base_url=BASE) as client:
        yield client


def until(is_so: Callable[[], Any], patience_s: float = 60) -> Any:
    deadline = time.monotonic() + patience_s
    while True:
        found = is_so()
        if found:
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


def asked(client: TestClient, command: str, **arguments: Any) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json={"command": command, "arguments": arguments})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


def ended(client: TestClient, identity: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        job = dict(client.get(f"/v1/jobs/{identity}").json()["data"])
        return None if job["state"] in ("queued", "running") else job

    return dict(until(look))


def test_curate_runs_and_tells(config: ServerConfig, root: Path) -> None:
    with training(config, root) as client:
        job = asked(client, "curate", input_dir="raw", out="curated", min_duration=1, workers=1,
                    target_format="wav")  # fmt: skip
        assert job["state"] == "queued"
        done = ended(client, job["job_id"])
        assert (done["state"], done["code"], done["progress"]) == ("succeeded", 0, 1.0)
        assert done["result"]["results"][0]["status"] == "success"
        assert list((root / "curated").glob("*.wav"))
        assert [j["job_id"] for j in client.get("/v1/jobs").json()["data"]["jobs"]] == [
            job["job_id"]
        ]
        assert client.post(f"/v1/jobs/{job['job_id']}/resume").status_code == 409
        assert client.delete(f"/v1/jobs/{job['job_id']}").json()["data"]["deleted"]
        assert client.get(f"/v1/jobs/{job['job_id']}").status_code == 404
        assert list((config.worker.home / "jobs").iterdir()) == []


def test_a_command_s_own_sentence_is_told(config: ServerConfig, root: Path) -> None:
    with training(config, root) as client:
        first = asked(client, "dataset_check", dataset_dir="raw")
        second = asked(client, "dataset_check", dataset_dir="raw")
        done = ended(client, first["job_id"])
        assert (done["state"], done["code"]) == ("failed", 1)
        assert "raw is not a data set" in done["error"]
        assert "raw is not" in client.get(f"/v1/jobs/{first['job_id']}/log").json()["data"]["log"]
        after = ended(client, second["job_id"])
        assert after["started"] >= done["ended"]  # one at a time


def test_they_are_off_by_default(client: TestClient, locked: TestClient) -> None:
    body = {"command": "curate", "arguments": {}}
    for answer in (client.post("/v1/jobs", json=body), client.get("/v1/jobs"),
                   client.get("/v1/training/status"), client.post("/v1/training/stop"),
                   client.post("/v1/training/start", json={"tensor_dir": "x"})):  # fmt: skip
        assert answer.status_code == 403, answer.text
        assert "--data-root" in answer.json()["detail"]
    assert locked.post("/v1/jobs", json=body).status_code == 401
    assert locked.get("/v1/jobs").status_code == 401


def test_the_command_line_wants_a_key_with_a_data_root(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", "--dry-run", "--data-root", str(root)]
    assert main(words) == 2
    assert "--allow-training" in capsys.readouterr().err
    assert main([*words, "--allow-training"]) == 0
    assert main([*words, "--api-key", "k"]) == 0


@pytest.mark.parametrize(
    "named",
    ["../outside", "/etc", "link", "link/x", "raw/../../outside", "raw\0", "", " ", 7, None,
     ["raw"], "x\ny", "none", "raw/-rf.wav", "a" * 5000],
)  # fmt: skip
def test_paths_that_are_refused(root: Path, named: Any) -> None:
    with pytest.raises(RequestError):
        words_of("dataset_check", {"dataset_dir": named}, Roots([root]))


@pytest.mark.parametrize("named", ["../x", "/etc/x", "link/x", ".", "raw/../..", "x\n", "~/x\0"])
def test_places_that_are_refused(root: Path, named: str) -> None:
    said = {"dataset_dir": "raw", "out": named}
    with pytest.raises(RequestError, match="out"):
        words_of("dataset_export", said, Roots([root]))


def test_nothing_that_is_said_becomes_a_flag(root: Path) -> None:
    roots = Roots([root])
    (root / "--out").mkdir()
    words = words_of("curate", {"input_dir": "--out", "out": "--report", "workers": -1}, roots)
    assert words == ["curate", f"--out={root / '--report'}", "--workers=-1", str(root / "--out")]
    train = {"dataset": "raw", "logs_dir": "runs"}
    for name in ("--config=/etc/passwd", "-v", "../x", "a/b", "", "a b", "a\n", ".."):
        with pytest.raises(RequestError, match="exp_name"):
            words_of("train", train | {"exp_name": name}, roots)
    for said in ({"config": "x"}, {"--config": "x"}, {"verbose": True}):
        with pytest.raises(RequestError, match="takes no argument"):
            words_of("train", train | {"exp_name": "a"} | said, roots)
    with pytest.raises(RequestError, match="number"):
        words_of("curate", {"input_dir": "raw", "out": "x", "workers": "1 --report"}, roots)
    with pytest.raises(RequestError, match="one of"):
        words_of("curate", {"input_dir": "raw", "out": "x", "target_format": "-x"}, roots)
    with pytest.raises(RequestError, match="true or false"):
        words_of("curate", {"input_dir": "raw", "out": "x", "report": "yes"}, roots)
    merge = {"base_model": "mini", "output_dir": "m", "adapters": [{"path": "raw", "weight": 0.5}]}
    assert words_of("merge", merge, roots) == [
        "merge", "--base-model=mini", f"--adapter={root / 'raw'}:0.5",
        f"--output-dir={root / 'm'}",
    ]  # fmt: skip
    (root / "style.safetensors").write_bytes(b"x")
    single = merge | {"adapters": ["style.safetensors"]}
    assert f"--adapter={root / 'style.safetensors'}:1.0" in words_of("merge", single, roots)
    with pytest.raises(RequestError, match="there is no such folder or file"):
        words_of("merge", merge | {"adapters": ["none.safetensors"]}, roots)
    with pytest.raises(RequestError, match="no command"):
        words_of("serve", {}, roots)


def test_every_form_is_of_a_command_and_its_flags() -> None:
    from luthier.cli.main import build_parser

    assert set(COMMANDS) == set(Command.__args__)  # type: ignore[attr-defined]
    for words, fields in COMMANDS.values():
        parser = build_parser(words[0])
        for word in words[1:]:
            (actions,) = [a for a in parser._actions if a.dest == "action"]
            parser = actions.choices[word]  # type: ignore[index,call-overload]
        flags = {flag for action in parser._actions for flag in action.option_strings}
        assert {field.flag for field in fields.values() if field.flag} <= flags, words


def test_the_openapi_refuses_an_unknown_command(config: ServerConfig, root: Path) -> None:
    with training(config, root) as client:
        for body in ({"command": "serve"}, {"command": ["rm"]}, {}, {"command": "curate",
                     "arguments": ["x"]}, {"command": "curate", "settings": {"a": 1},
                     "arguments": {"input_dir": "raw", "out": "x"}}):  # fmt: skip
            assert client.post("/v1/jobs", json=body).status_code == 400, body


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    store = Store(tmp_path / "jobs.sqlite3")
    yield Jobs(store)
    store.close()


def long_job(jobs: Jobs, tmp_path: Path) -> Job:
    """A luthier command that runs until it is stopped."""
    home = tmp_path / "home"
    return jobs.add("serve", {}, ["serve", "--port", "0", "--threads", "1", "--home", str(home)])


def process_of(jobs: Jobs, job: Job) -> Process:
    found = until(lambda: jobs.get(job.id).process)
    assert isinstance(found, Process)
    return found


def test_a_job_outlives_its_server_and_is_found_again(jobs: Jobs, tmp_path: Path) -> None:
    job = long_job(jobs, tmp_path)
    first = JobRunner(jobs, tmp_path / "jobs", 1)
    first.start()
    process = process_of(jobs, job)
    until(lambda: (tmp_path / "jobs" / job.id / "result.json").stat().st_size)
    first.stop()
    assert is_running(process)
    second = JobRunner(jobs, tmp_path / "jobs", 1)
    second.start()
    time.sleep(0.7)
    assert jobs.get(job.id).state == "running"
    jobs.stop(job.id)
    until(lambda: jobs.get(job.id).state != "running")
    assert jobs.get(job.id).code == 0  # it was asked as Ctrl-C asks, and ended well
    assert not is_running(process)
    second.stop()


def test_a_server_that_dies_while_it_starts_a_job_loses_no_process(
    jobs: Jobs, tmp_path: Path
) -> None:
    job = long_job(jobs, tmp_path)
    first = JobRunner(jobs, tmp_path / "jobs", 1)
    first.start()
    process = process_of(jobs, job)
    until(lambda: (tmp_path / "jobs" / job.id / "process.json").is_file())
    first.stop()
    with jobs._store.transaction() as connection:  # as if it had not been written down
        connection.execute("UPDATE jobs SET pid = NULL, born = NULL")
    second = JobRunner(jobs, tmp_path / "jobs", 1)
    second.start()
    assert process_of(jobs, job) == process
    jobs.stop(job.id)
    until(lambda: jobs.get(job.id).state != "running")
    assert not is_running(process)
    second.stop()


def test_a_killed_job_is_interrupted_and_can_go_on(jobs: Jobs, tmp_path: Path) -> None:
    job = long_job(jobs, tmp_path)
    runner = JobRunner(jobs, tmp_path / "jobs", 1)
    runner.start()
    os.kill(process_of(jobs, job).pid, signal.SIGKILL)
    until(lambda: jobs.get(job.id).state == "interrupted")
    assert "killed" in (jobs.get(job.id).error or "")
    waiting = jobs.again(job.id, job.words)
    assert (waiting.state, waiting.error) == ("queued", None)
    process = process_of(jobs, job)
    jobs.stop(job.id)
    until(lambda: jobs.get(job.id).state not in ("queued", "running"))
    assert not is_running(process)
    runner.stop()


def test_another_process_under_the_same_number_is_left_alone() -> None:
    assert not is_running(Process(os.getpid(), "of another time"))
    assert not is_running(Process(2**22 + 5, "x"))


def test_a_waiting_job_is_stopped_without_a_process(jobs: Jobs, tmp_path: Path) -> None:
    job = long_job(jobs, tmp_path)
    assert jobs.stop(job.id).state == "stopped"
    assert not jobs.starts(job)


def test_keys_stay_with_the_server() -> None:
    whole = {"ACESTEP_API_KEY": "a", "LUTHIER_API_KEY": "b", "PATH": "c"}
    assert environment(whole) == {"PATH": "c"}


def test_progress_is_the_last_whole_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    row = {"task": "train", "done": 5, "total": 20, "note": "loss 0.8", "eta_s": 3.0}
    log.write_text(f'x\n{json.dumps(row | {"done": 4})}\n{json.dumps(row)}\nnoise\n{{"task": ')
    found = progress_of(log)
    assert found == ("train", 0.25, "loss 0.8", 3.0)
    assert tail(log, 30).endswith('{"task": ')
    assert progress_of(tmp_path / "none") is None
