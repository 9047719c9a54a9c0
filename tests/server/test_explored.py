"""What a matrix recommends → what clients are told; what is no matrix is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from luthier.cli.main import main
from luthier.errors import LuthierError
from luthier.files import sha256_of
from luthier.matrix.recommend import recommended
from luthier.music.mini import onnx_folder
from luthier.server.acestep.recommendations import explored_from
from luthier.server.app import create_app
from luthier.server.config import ServerConfig

HOME = "http://127.0.0.1:8001"
MODELS = {"mini": onnx_folder()}
HASH = sha256_of(onnx_folder() / "manifest.json")


def matrix(**changes: Any) -> dict[str, Any]:
    """What counts of a result of `luthier matrix`, of one cell that mini did not make."""
    cell = {
        **{"model": "mini", "task": "text2music", "bpm": 90, "key": "C major", "seed": 1},
        **{"duration_s": 10, "steps": None, "batch": 1, "state": "failed", "error": "no"},
        **{"runtime": None, "memory": None, "pieces": []},
    }
    machine = {"cpu": "x", "memory_gb": 8.0, "gpu": None}
    result = {
        "created": "2026-11-24T03:02:47+00:00",
        "environment": {"machine": machine, "models": {"mini": {"manifest_sha256": HASH}}},
        "recommended": recommended([cell], machine),
    }
    return result | changes


def written(folder: Path, value: Any) -> Path:
    path = folder / "matrix.json"
    path.write_text(json.dumps(value))
    return path


def test_clients_are_told(config: ServerConfig, tmp_path: Path) -> None:
    path = written(tmp_path, matrix())
    found = explored_from(path, MODELS)
    assert explored_from(tmp_path, MODELS) == found
    with TestClient(create_app(replace(config, explored=found)), base_url=HOME) as client:
        (model,) = client.get("/v1/capabilities").json()["data"]["models"]
    told = model["explored"]
    assert told["tasks"]["text2music"]["verdict"] == "unstable"
    assert told["tasks"]["text2music"]["speed"] is None
    assert told["offer"] == []
    assert told["longest_live_s"] is None


def test_without_a_matrix_nothing_is_told(config: ServerConfig) -> None:
    with TestClient(create_app(config), base_url=HOME) as client:
        (model,) = client.get("/v1/capabilities").json()["data"]["models"]
    assert model["explored"] is None


def test_models_that_are_not_served_are_left_out(tmp_path: Path) -> None:
    assert explored_from(written(tmp_path, matrix()), {"other": tmp_path}) == {}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], "is no result of `luthier matrix`"),
        ({"recommended": {}}, "is no result of `luthier matrix`"),
        (matrix(recommended={"mini": {"tasks": 3}}), "is no result of `luthier matrix`"),
        (matrix(recommended={"mini": []}), "is no result of `luthier matrix`"),
        (matrix(environment={"models": ["mini"]}), "is no result of `luthier matrix`"),
        (matrix(environment={"models": {"mini": 3}}), "is no result of `luthier matrix`"),
        (
            matrix(environment={"models": {"mini": {"manifest_sha256": "0" * 64}}}),
            "another model called mini",
        ),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, value: Any, told: str) -> None:
    with pytest.raises(LuthierError, match=told):
        explored_from(written(tmp_path, value), MODELS)


def test_the_flag_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["serve", "--home", str(tmp_path / "home"), "--dry-run", "--matrix"]
    assert main([*words, str(tmp_path / "none.json")]) == 1
    assert "none.json does not exist" in capsys.readouterr().err
    assert main([*words, str(written(tmp_path, matrix()))]) == 0
