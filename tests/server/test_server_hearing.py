"""Tasks that make no music: audio codes of a recording, and what a planner says of a piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from test_server_routes import claimed, data_of, error_of, polled

from luthier.audio.encode import write_audio
from luthier.errors import RequestError
from luthier.music.mini import onnx_folder
from luthier.music.planner.fields import Grammars
from luthier.music.playing.encoder import Encoder
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request_values import codes_value
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.workers.work import Musician
from tiny import tiny_onnx
from tiny_lm import CODES, tiny_lm_onnx


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "in.wav"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 48000)).astype(np.float32)
    write_audio(path, noise, 24000)
    return path


@pytest.fixture
def thinker(setup: WorkerSetup) -> WorkerSetup:
    return replace(setup, models={"tiny": tiny_onnx()}, planner=tiny_lm_onnx())


@pytest.fixture
def thinking(config: ServerConfig, thinker: WorkerSetup) -> Iterator[TestClient]:
    app = create_app(replace(config, worker=thinker, upload_bytes=10**6))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        yield client


def done(musician: Musician, queue: Queue, folder: Path) -> list[str]:
    task, stages = claimed(queue), []
    folder.mkdir()
    result = musician.do(task, folder, lambda _, stage: stages.append(stage), lambda: False)
    assert not list(folder.iterdir())
    Leases(queue).finish(task, {"folder": folder.name, **result})
    return stages


def uploaded(client: TestClient, recording: Path, **fields: str) -> str:
    parts: dict[str, Any] = {name: (None, value) for name, value in fields.items()}
    parts["src_audio"] = ("in.wav", recording.read_bytes())
    return str(data_of(client.post("/release_task", files=parts))["task_id"])


def test_codes_are_those_that_a_cover_hears(
    config: ServerConfig, queue: Queue, setup: WorkerSetup, recording: Path, tmp_path: Path
) -> None:
    app = create_app(replace(config, upload_bytes=10**6))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        identity = uploaded(client, recording, extract_codes_only="true")
        stages = done(Musician(setup), queue, tmp_path / "out")
        status, (item,) = polled(client, identity)
    assert (status, item["status"], item["audio_paths"]) == (1, 1, [])
    assert item["status_message"] == "Audio Codes Extraction Success"
    assert stages == ["Extracting Audio Codes..."]
    codes = codes_value(item["audio_codes"])
    encoder = MusicPipeline(onnx_folder(), 1).encoder
    latents = encoder.latents_of(encoder.read(recording))
    assert len(codes) == -(-latents.shape[1] // encoder.spec.pool_window)
    assert len(set(codes)) > 1
    frames = latents.shape[1]
    np.testing.assert_allclose(
        encoder.hints_of_codes(codes, frames), encoder.hints(latents), atol=1e-4
    )


def test_codes_can_be_played_again(client: TestClient, queue: Queue) -> None:
    body = {"audio_code_string": "<|audio_code_3|><|audio_code_1900|>", "batch_size": 1}
    identity = data_of(client.post("/release_task", json=body))["task_id"]
    assert queue.get(identity).request["music"]["audio_codes"] == [3, 1900]


def musician_of(thinker: WorkerSetup) -> Musician:
    made = Musician(thinker)
    planner = made._open_planner()
    planner._grammars = Grammars(planner.vocabulary, caption_tokens=20, lyrics_tokens=30)
    return made


def test_a_recording_is_analysed(
    thinking: TestClient,
    queue: Queue,
    thinker: WorkerSetup,
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    identity = uploaded(thinking, recording, full_analysis_only="1", seed="3")
    # The tiny planner knows 40 codes, the tiny model as many as any model.
    hear = Encoder.codes
    monkeypatch.setattr(Encoder, "codes", lambda *args: tuple(c % CODES for c in hear(*args)))
    stages = done(musician_of(thinker), queue, tmp_path / "out")
    status, (item,) = polled(thinking, identity)
    assert status == 1
    assert stages[0] == "Starting Deep Analysis..."
    assert item["status_message"] == "Full Hardware Analysis Success"
    assert 30 <= item["bpm"] <= 300
    assert item["timesignature"] in ("2", "3", "4", "6")
    assert item["keyscale"].split()[1] in ("major", "minor")
    assert item["audio_codes"].startswith("<|audio_code_")
    assert item["metas"]["bpm"] == item["bpm"]
    (listed,) = data_of(thinking.get("/v1/tasks"))["tasks"]
    assert listed["results"] == [item]


def test_a_planner_that_does_not_know_the_model_s_codes_says_so(
    thinking: TestClient, queue: Queue, thinker: WorkerSetup, recording: Path, tmp_path: Path
) -> None:
    uploaded(thinking, recording, full_analysis_only="1")
    with pytest.raises(RequestError, match="codes go from 0 to 39"):
        done(musician_of(thinker), queue, tmp_path / "out")


def test_words_are_analysed_and_what_was_said_stays(
    thinking: TestClient, queue: Queue, thinker: WorkerSetup, tmp_path: Path
) -> None:
    body = {"analysis_only": True, "prompt": "rain", "lyrics": "la", "bpm": 77, "seed": 3}
    identity = data_of(thinking.post("/release_task", json=body))["task_id"]
    done(musician_of(thinker), queue, tmp_path / "out")
    status, (item,) = polled(thinking, identity)
    assert (status, item["bpm"], item["lyrics"], item["audio_codes"]) == (1, 77, "la", "")
    assert item["duration"] >= 10


@pytest.mark.parametrize("name", ["extract_codes_only", "full_analysis_only"])
def test_without_a_recording_there_is_nothing_to_hear(thinking: TestClient, name: str) -> None:
    assert "src_audio" in error_of(thinking.post("/release_task", json={name: True}), 400)


@pytest.mark.parametrize("name", ["analysis_only", "full_analysis_only"])
def test_an_analysis_needs_a_planner(client: TestClient, name: str) -> None:
    parts = {name: (None, "1"), "src_audio": ("in.wav", b"x")}
    assert "planner" in error_of(client.post("/release_task", files=parts), 400)
