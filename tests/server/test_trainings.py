"""ACE-Step's training routes over `luthier train`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from luthier.errors import RequestError
from luthier.server.acestep.training_request import form_of
from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.jobs.commands import Roots
from luthier.server.schemas.trainings import LokrTraining, LoraTraining, TrainingStatus

SET = {"train_count": 9, "track_count": 10, "total_duration": 0.5}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "set").mkdir(parents=True)
    (folder / "set" / "dataset_manifest.json").write_text(json.dumps(SET))
    (folder / "empty").mkdir()
    return folder


@contextmanager
def training(config: ServerConfig, root: Path) -> Iterator[TestClient]:
    app = create_app(replace(config, data_roots=(root,)))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        yield client


def data(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


def until(is_so: Callable[[], Any], patience_s: float = 300) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_upstream_s_settings_become_ours(root: Path) -> None:
    roots = Roots([root])
    arguments, settings, notes = form_of(LoraTraining(tensor_dir="set"), roots)
    assert arguments == {"dataset": str(root / "set"), "logs_dir": str(root),
                         "exp_name": "lora_output", "model": "mini"}  # fmt: skip
    # 9 tracks by 1 · 4 are 3 steps an epoch; 10 epochs, saved every 5.
    assert settings == {
        "adapter": "lora", "rank": 64, "alpha": 128, "dropout": 0.1, "use_rslora": False,
        "learning_rate": 1e-4, "batch_size": 1, "accumulate": 4, "max_steps": 30, "save_every": 15,
        "seed": 42, "gradient_checkpointing": False,
    }  # fmt: skip
    assert notes == []
    lokr = LokrTraining(tensor_dir="set", lokr_factor=8, use_tucker=True, training_shift=1.0)
    form = form_of(lokr, roots)
    assert (form.settings["adapter"], form.settings["max_steps"]) == ("lokr", 1500)
    assert form.arguments["exp_name"] == "lokr_output"
    assert form.notes == ["training_shift has no effect here."]


@pytest.mark.parametrize(
    "said",
    [
        {"tensor_dir": "empty"},
        {"tensor_dir": "../x"},
        {"tensor_dir": "set", "lora_output_dir": "../../x"},
        {"tensor_dir": "set", "lora_output_dir": "-x"},
        {"tensor_dir": "set", "lora_output_dir": "."},
        {"tensor_dir": "set", "model": "/etc"},
        {"tensor_dir": "set", "network_weights": "x.safetensors"},
        {"tensor_dir": "set", "lora_rank": 0},
        {"tensor_dir": "set", "learning_rate": "fast"},
        {},
    ],
)
def test_what_is_refused_starts_nothing(
    config: ServerConfig, root: Path, said: dict[str, Any]
) -> None:
    with training(config, root) as client:
        answer = client.post("/v1/training/start", json=said)
        assert answer.status_code == 400, answer.text
        assert client.get("/v1/jobs").json()["data"]["jobs"] == []


def test_idle_and_what_a_set_holds(config: ServerConfig, root: Path) -> None:
    with training(config, root) as client:
        idle = data(client.get("/v1/training/status"))
        assert (idle["is_training"], idle["status"]) == (False, "Idle")
        assert set(idle) == set(TrainingStatus.model_fields)
        assert data(client.post("/v1/training/stop"))["message"] == "No training in progress"
        held = data(client.post("/v1/training/load_tensor_info", json={"tensor_dir": "set"}))
        assert (held["num_samples"], held["tracks"]) == (9, 10)
        for body in ({"export_path": "set", "lora_output_dir": "set"},
                     {"export_path": "new", "lora_output_dir": "empty"},
                     {"export_path": "../new", "lora_output_dir": "empty"}):  # fmt: skip
            assert client.post("/v1/training/export", json=body).status_code == 400


def test_a_form_of_another_folder_is_no_set(root: Path) -> None:
    (root / "empty" / "dataset_manifest.json").write_text('{"train_count": 0}')
    with pytest.raises(RequestError, match="no data set of luthier"):
        form_of(LoraTraining(tensor_dir="empty"), Roots([root]))


@pytest.mark.slow
def test_train_stop_resume_export(config: ServerConfig, tmp_path: Path) -> None:
    from tiny import make_tiny_model
    from tiny_tracks import make_dataset

    root = tmp_path / "data"
    make_tiny_model(root / "model")
    make_dataset(root)
    with training(config, root) as client:
        body = {"tensor_dir": "set", "model": "model", "lora_output_dir": "runs/calm",
                "lora_rank": 2, "train_epochs": 5000, "gradient_accumulation": 1}  # fmt: skip
        begun = data(client.post("/v1/training/start", json=body))
        assert (
            client.post("/v1/training/start", json=body)
            .json()["detail"]
            .startswith("Training already in progress")
        )
        until(lambda: data(client.get("/v1/training/status"))["current_step"] >= 2)
        told = data(client.get("/v1/training/status"))
        assert (told["is_training"], told["status"]) == (True, "Training")
        assert told["current_loss"] > 0
        assert told["estimated_time_remaining"] > 0
        assert data(client.post("/v1/training/stop"))["message"] == "Stopping training..."
        job = f"/v1/jobs/{begun['job_id']}"
        until(lambda: data(client.get(job))["state"] == "stopped")
        steps = data(client.get("/v1/training/status"))["current_step"]
        assert data(client.post(f"{job}/resume"))["state"] == "queued"
        until(lambda: data(client.get("/v1/training/status"))["current_step"] > steps)
        client.post("/v1/training/stop")
        until(lambda: data(client.get(job))["state"] == "stopped")
        export = {"export_path": "adapters/calm", "lora_output_dir": "runs/calm"}
        assert "Exported epoch=" in data(client.post("/v1/training/export", json=export))["message"]
        exported = root / "adapters" / "calm"
        for name in ("adapter_model.safetensors", "acestep/adapter_config.json"):
            assert (exported / name).is_file()
        assert (exported / "comfyui.safetensors").is_file()
