"""Opening models before they are needed, choosing the default one, and reading all anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient
from test_server_routes import data_of, error_of

from luthier.music.mini import onnx_folder
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup


@pytest.fixture(scope="module")
def band(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server with one worker, and mini under two names."""
    models = {"first": onnx_folder(), "second": onnx_folder()}
    setup = WorkerSetup(home=tmp_path_factory.mktemp("home"), models=models, threads=1)
    app = create_app(ServerConfig(worker=setup))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        wait_for(lambda: data_of(client.get("/health"))["models_initialized"])
        yield client
        client.post("/v1/init", json={"model": "first"})


def wait_for(is_so: Any, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


def loaded(client: TestClient) -> set[str]:
    return {row["name"] for row in data_of(client.get("/v1/models"))["models"] if row["is_loaded"]}


def test_a_model_is_opened_before_it_is_needed(band: TestClient) -> None:
    data = data_of(band.post("/v1/init", json={"slot": 2}))
    assert (data["slot"], data["loaded_model"]) == (2, "second")
    assert (data["loaded_lm_model"], data["lm_models"], data["llm_initialized"]) == (
        None,
        [],
        False,
    )
    wait_for(lambda: loaded(band) == {"first", "second"})
    assert data_of(band.get("/v1/model_inventory")) == data_of(band.get("/v1/models"))
    assert data_of(band.get("/v1/models"))["default_model"] == "first"


def test_what_is_opened_in_the_first_slot_plays_where_no_model_is_named(band: TestClient) -> None:
    data = data_of(band.post("/v1/init", json={"model": "second"}))
    assert [row["is_default"] for row in data["models"]] == [False, True]
    assert data_of(band.get("/v1/capabilities"))["default_model"] == "second"
    short = {"prompt": "x", "audio_duration": 1, "inference_steps": 1, "batch_size": 1}
    identity = data_of(band.post("/release_task", json=short))["task_id"]
    wait_for(lambda: data_of(band.get(f"/v1/tasks/{identity}"))["state"] == "succeeded")
    (piece,) = data_of(band.get(f"/v1/tasks/{identity}"))["results"]
    assert piece["dit_model"] == "second"
    band.post("/v1/init", json={"model": "first"})


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"slot": 3}, 400, "slot 3 is not available"),
        ({"slot": 4}, 400, "slot"),
        ({"model": "third"}, 400, "first, second"),
        ({"init_llm": True}, 503, "--lm-model-path"),
        ({"lm_model_path": "x"}, 503, "--lm-model-path"),
    ],
)
def test_what_cannot_be_opened(
    band: TestClient, body: dict[str, Any], status: int, told: str
) -> None:
    assert told in error_of(band.post("/v1/init", json=body), status)


def test_fresh_workers_read_the_models_anew(band: TestClient) -> None:
    service: Any = band.app.state.service  # type: ignore[attr-defined]
    before = {worker.name for worker in service.leases.workers()}
    message = data_of(band.post("/v1/reinitialize"))["message"]
    assert message.startswith("Service reinitialized")
    wait_for(lambda: {w.name for w in service.leases.workers() if w.loaded} - before)


def test_without_workers_nothing_is_opened(client: TestClient) -> None:
    told = error_of(client.post("/v1/init", json={}), 500)
    assert told.startswith("Model initialization failed")
    assert error_of(client.post("/v1/reinitialize"), 500) == "Service not initialized"


def test_a_planner_is_named_by_its_folder(config: ServerConfig, tmp_path: Any) -> None:
    setup = replace(config.worker, planner=tmp_path / "planner")
    with TestClient(
        create_app(replace(config, worker=setup)), base_url="http://127.0.0.1:8001"
    ) as client:
        told = error_of(client.post("/v1/init", json={"lm_model_path": "other"}), 400)
        assert "planner" in told
        assert data_of(client.get("/v1/models"))["lm_models"] == [
            {"name": "planner", "is_loaded": True}
        ]
