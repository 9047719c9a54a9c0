"""Thinking, inventing and rewriting over HTTP, with a tiny planner and a tiny model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from test_server_routes import claimed, data_of, error_of

from luthier.audio.decode import read_audio
from luthier.errors import CancelledError
from luthier.music.planner.fields import Grammars
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.task import Task
from luthier.server.workers.work import Musician
from tiny import tiny_onnx
from tiny_lm import tiny_lm_onnx

FACTS = {"bpm": 90, "key": "Am", "time_signature": "3", "audio_duration": 10}


@pytest.fixture
def thinker(setup: WorkerSetup) -> WorkerSetup:
    return replace(setup, models={"tiny": tiny_onnx()}, planner=tiny_lm_onnx())


@pytest.fixture
def musician(thinker: WorkerSetup) -> Musician:
    made = Musician(thinker)
    planner = made._open_planner()
    planner._grammars = Grammars(planner.vocabulary, caption_tokens=20, lyrics_tokens=30)
    return made


@pytest.fixture
def client(config: ServerConfig, thinker: WorkerSetup) -> Iterator[TestClient]:
    app = create_app(replace(config, worker=thinker))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        yield client


def done(musician: Musician, task: Task, folder: Path) -> tuple[dict[str, Any], list[str]]:
    stages: list[str] = []
    folder.mkdir()
    return musician.do(task, folder, lambda _, stage: stages.append(stage), lambda: False), stages


def test_a_thinking_task_plays_the_planner_s_codes(
    client: TestClient, queue: Queue, musician: Musician, tmp_path: Path
) -> None:
    body = {"prompt": "rain", "thinking": True, "batch_size": 1, "seed": 2, "inference_steps": 1}
    data_of(client.post("/release_task", json=body | FACTS))
    result, stages = done(musician, claimed(queue), tmp_path / "out")
    (piece,) = result["pieces"]
    assert len(piece["request"]["audio_codes"]) == 50
    audio, rate = read_audio(tmp_path / "out" / piece["path"])
    assert audio.shape[1] / rate == pytest.approx(10, abs=0.2)
    assert result["planner"] == tiny_lm_onnx().name
    assert stages[0].startswith("Phase 1")
    assert stages[-1] == "Preparing audio data..."


@pytest.mark.parametrize("how", [{"sample_query": "a waltz"}, {"sample_mode": True}])
def test_the_planner_invents(
    client: TestClient, queue: Queue, musician: Musician, tmp_path: Path, how: dict[str, Any]
) -> None:
    body = {"batch_size": 1, "seed": 2, "inference_steps": 1, "bpm": 77, "audio_duration": 10}
    data_of(client.post("/release_task", json=body | how))
    result, _ = done(musician, claimed(queue), tmp_path / "out")
    assert result["facts"]["bpm"] == 77  # what was said stays
    assert result["facts"]["key"] is not None
    assert result["prompt"]


def test_the_planner_is_left_out_where_a_source_is_followed(
    client: TestClient, queue: Queue
) -> None:
    files = {"src_audio": ("a.wav", b"x"), "task_type": (None, "cover"), "thinking": (None, "1")}
    answer = client.post("/release_task", files=files).json()
    assert "the planner was left out" in answer["extra"]["notes"][0]
    assert queue.get(answer["data"]["task_id"]).request["options"]["thinking"] is False


def test_a_plan_can_be_stopped(
    client: TestClient, queue: Queue, musician: Musician, tmp_path: Path
) -> None:
    data_of(client.post("/release_task", json={"thinking": True}))
    tmp_path.joinpath("out").mkdir()
    with pytest.raises(CancelledError):
        musician.do(claimed(queue), tmp_path / "out", lambda *_: None, lambda: True)


def test_format_input(client: TestClient, queue: Queue, musician: Musician, tmp_path: Path) -> None:
    def work() -> None:
        leases = Leases(queue)
        while (task := leases.claim("w")) is None:
            pass
        leases.finish(task, done(musician, task, tmp_path / "out")[0])

    thread = threading.Thread(target=work)
    thread.start()
    said = {"duration": 20, "bpm": 88, "key": "C major", "time_signature": "4", "language": "en"}
    body = {"prompt": "rain", "lyrics": "la", "temperature": 0.5, "param_obj": said}
    data = data_of(client.post("/format_input", json=body))
    thread.join()
    names = "caption lyrics bpm key_scale time_signature duration vocal_language"
    assert set(data) == set(names.split())
    assert (data["bpm"], data["key_scale"], data["duration"]) == (88, "C major", 20)
    assert (data["time_signature"], data["vocal_language"]) == ("4", "en")


def test_format_input_refuses_what_is_out_of_range(client: TestClient, queue: Queue) -> None:
    for body in ({"temperature": 9}, {"param_obj": {"bpm": 1}}, {"param_obj": "{"}):
        error_of(client.post("/format_input", json=body), 400)
    assert queue.counts().total == 0
