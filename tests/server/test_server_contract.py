"""ACE-Step's interface row by row, as its documentation promises it: routes and who may use them,
polling, and the variables of the environment.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from test_server_routes import PIECE, RESULT, claimed

from luthier.cli import serve
from luthier.cli.main import build_parser, main
from luthier.errors import RequestError
from luthier.server.config import ServerConfig
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue

OPEN, HEADER, TOKEN = "no key", "header", "header or ai_token"
ID = "/v1/tasks/x"
# method, path, who may, the least body that it takes
ROUTES: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("POST", "/release_task", TOKEN, {"prompt": "rain"}),
    ("POST", "/query_result", TOKEN, {"task_id_list": []}),
    ("POST", "/create_random_sample", TOKEN, {}),
    ("POST", "/format_input", TOKEN, {"prompt": "rain"}),
    ("GET", "/v1/models", HEADER, None),
    ("GET", "/v1/stats", HEADER, None),
    ("GET", "/v1/audio?path=nothing.mp3", HEADER, None),
    ("GET", "/health", OPEN, None),
    ("POST", "/v1/chat/completions", HEADER, {"model": "m", "messages": []}),
    ("GET", "/v1/model_inventory", HEADER, None),
    ("POST", "/v1/init", TOKEN, {"slot": 1}),
    ("POST", "/v1/reinitialize", TOKEN, {}),
    ("POST", "/v1/create_sample", TOKEN, {"query": "rain"}),
    ("POST", "/v1/transcribe", TOKEN, {"audio_path": "nothing.mp3"}),
    ("POST", "/v1/lora/load", TOKEN, {"lora_path": "nothing"}),
    ("POST", "/v1/lora/unload", TOKEN, {}),
    ("POST", "/v1/lora/toggle", TOKEN, {"use_lora": True}),
    ("POST", "/v1/lora/scale", TOKEN, {"scale": 1}),
    ("GET", "/v1/lora/status", HEADER, None),
    ("POST", "/v1/dataset/scan", TOKEN, {"audio_dir": "raw"}),
    ("POST", "/v1/dataset/load", TOKEN, {"dataset_path": "raw/set.json"}),
    ("POST", "/v1/dataset/save", TOKEN, {"save_path": "set.json", "dataset_name": "set"}),
    ("POST", "/v1/dataset/auto_label", TOKEN, {}),
    ("POST", "/v1/dataset/auto_label_async", TOKEN, {"hunk_size": 8}),
    ("GET", "/v1/dataset/auto_label_status", HEADER, None),
    ("GET", "/v1/dataset/auto_label_status/x", HEADER, None),
    ("POST", "/v1/dataset/preprocess", TOKEN, {"output_dir": "set"}),
    ("POST", "/v1/dataset/preprocess_async", TOKEN, {"output_dir": "set"}),
    ("GET", "/v1/dataset/preprocess_status", HEADER, None),
    ("GET", "/v1/dataset/preprocess_status/x", HEADER, None),
    ("GET", "/v1/dataset/samples", HEADER, None),
    ("GET", "/v1/dataset/sample/0", HEADER, None),
    ("PUT", "/v1/dataset/sample/0", TOKEN, {"sample_idx": 0, "caption": "rain"}),
    ("GET", "/api/v1/models", HEADER, None),  # the OpenRouter server's
    ("GET", "/v1/capabilities", HEADER, None),
    ("GET", "/v1/tasks", HEADER, None),
    ("GET", ID, HEADER, None),
    ("POST", f"{ID}/cancel", HEADER, None),
    ("POST", f"{ID}/retry", HEADER, None),
    ("DELETE", ID, HEADER, None),
    ("GET", f"{ID}/events", HEADER, None),
]
ROWS = [pytest.param(*row, id=f"{row[0]} {row[1]}") for row in ROUTES]
LOCKED = [param for param, row in zip(ROWS, ROUTES, strict=True) if row[2] != OPEN]


def send(client: TestClient, method: str, path: str, body: Any, key: str | None = None) -> Any:
    headers = {} if key is None else {"Authorization": key}
    more = {} if body is None else {"json": body}
    return client.request(method, path, headers=headers, **more)


@pytest.mark.parametrize(("method", "path", "who", "body"), ROWS)
def test_a_route_is_there_and_open_where_the_server_has_no_key(
    client: TestClient, method: str, path: str, who: str, body: Any
) -> None:
    answer = send(client, method, path, body)
    assert answer.status_code not in (401, 405)
    assert answer.json().get("error") != "Not Found"


@pytest.mark.parametrize("key", ["Bearer two", "bearer two", "two"])
@pytest.mark.parametrize(("method", "path", "who", "body"), ROWS)
def test_a_key_in_the_header_lets_in_with_bearer_and_bare(
    locked: TestClient, method: str, path: str, who: str, body: Any, key: str
) -> None:
    assert send(locked, method, path, body, key).status_code != 401


@pytest.mark.parametrize(("method", "path", "who", "body"), LOCKED)
def test_a_wrong_or_missing_key_is_refused(
    locked: TestClient, method: str, path: str, who: str, body: Any
) -> None:
    wrong = send(locked, method, path, body, "Bearer three")
    assert (wrong.status_code, wrong.json()["detail"]) == (401, "Invalid API key")
    missing = send(locked, method, path, body)
    told = "Missing ai_token or Authorization header"
    assert (missing.status_code, missing.json()["detail"]) == (401, told)


@pytest.mark.parametrize(
    ("method", "path", "who", "body"), [p for p in LOCKED if p.values[2] == TOKEN]
)
def test_a_key_in_the_body_lets_in_where_upstream_takes_one(
    locked: TestClient, method: str, path: str, who: str, body: Any
) -> None:
    assert send(locked, method, path, body | {"ai_token": "one"}).status_code != 401
    wrong = send(locked, method, path, body | {"ai_token": "three"}, "Bearer one")
    assert (wrong.status_code, wrong.json()["detail"]) == (401, "Invalid ai_token")


def test_health_needs_no_key(locked: TestClient) -> None:
    assert locked.get("/health").status_code == 200


WAITING = {"file", "wave", "status", "create_time", "env", "progress", "stage"}
QUEUED = WAITING | {"prompt", "lyrics", "metas", "error"}
DONE = WAITING | {"prompt", "lyrics", "metas", "generation_info", "seed_value"}
DONE |= {"lm_model", "dit_model"}


def nothing(queue: Queue, leases: Leases) -> None: ...


def run(queue: Queue, leases: Leases) -> None:
    leases.report(claimed(queue), 0.5, "Generating music (batch size: 1)...")


def succeed(queue: Queue, leases: Leases) -> None:
    leases.finish(claimed(queue), RESULT | {"pieces": [PIECE]})


def fail(queue: Queue, leases: Leases) -> None:
    leases.fail(claimed(queue), "it did not work.")


def cancel(queue: Queue, leases: Leases) -> None:
    queue.cancel(queue.page()[0].id)


def age(queue: Queue, leases: Leases) -> None:
    with queue.store.transaction() as connection:
        connection.execute("UPDATE tasks SET created = created - 7200")


# what became of the task, outer status, inner status, progress, stage, keys of the item
POLLS: list[tuple[Callable[[Queue, Leases], None], int, int, float, str, set[str]]] = [
    (nothing, 0, 0, 0.0, "queued", QUEUED),
    (run, 0, 0, 0.5, "Generating music (batch size: 1)...", WAITING),
    (succeed, 1, 1, 1.0, "succeeded", DONE),
    (fail, 2, 2, 0.0, "failed", WAITING | {"error"}),
    (cancel, 2, 2, 0.0, "cancelled", WAITING | {"error"}),
    # Upstream calls a task failed after an hour that goes on; here it is what it is.
    (age, 0, 0, 0.0, "queued", QUEUED),
]


@pytest.mark.parametrize("polls", POLLS, ids=[row[0].__name__ for row in POLLS])
def test_polling_tells_what_became_of_a_task(
    client: TestClient, queue: Queue, polls: tuple[Any, ...]
) -> None:
    become, outer, inner, progress, stage, keys = polls
    body = {"prompt": "rain", "batch_size": 1}
    identity = client.post("/release_task", json=body).json()["data"]["task_id"]
    become(queue, Leases(queue))
    (row,) = client.post("/query_result", json={"task_id_list": [identity]}).json()["data"]
    assert (row["task_id"], row["status"], row["progress_text"]) == (identity, outer, stage)
    (item,) = json.loads(row["result"])
    assert keys <= set(item)
    assert (item["status"], item["progress"], item["stage"]) == (inner, progress, stage)
    assert (item["wave"], item["env"], item["file"] != "") == ("", "development", inner == 1)


def test_an_unknown_id_is_no_error(client: TestClient) -> None:
    (row,) = client.post("/query_result", json={"task_id_list": '["x"]'}).json()["data"]
    assert (row["status"], row["result"]) == (0, "[]")


def configured(*words: str) -> ServerConfig:
    return serve._config(build_parser("serve").parse_args(list(words)), "127.0.0.1")


# variable, its value, what becomes of it, and without it
VARIABLES: list[tuple[str, str, Callable[[ServerConfig], Any], Any, Any]] = [
    ("ACESTEP_API_KEY", "one,two", lambda c: c.keys, ("one", "two"), ()),
    ("ACESTEP_CONFIG_PATH", "MINI", lambda c: list(c.worker.models), ["onnx"], ["mini"]),
    ("ACESTEP_LM_MODEL_PATH", "FOLDER", lambda c: c.worker.planner, "FOLDER", None),
    ("ACESTEP_QUEUE_MAXSIZE", "7", lambda c: c.queue_limit, 7, 200),
    ("ACESTEP_QUEUE_WORKERS", "3", lambda c: c.workers, 3, 1),
    ("ACESTEP_AVG_JOB_SECONDS", "2.5", lambda c: c.usual_s, 2.5, 5.0),
    ("ACESTEP_TMPDIR", "FOLDER", lambda c: c.worker.home, "FOLDER", Path("work/server").resolve()),
    ("ACESTEP_GENERATION_TIMEOUT", "60", lambda c: c.answer_s, 60.0, 600.0),
    ("ACESTEP_DEVICE", "cuda:0", lambda c: c.worker.provider, "cuda", "auto"),
    ("ACESTEP_DEVICE", "mps", lambda c: c.worker.provider, "coreml", "auto"),
]


@pytest.mark.parametrize(
    ("name", "value", "read", "meant", "usual"),
    VARIABLES,
    ids=[f"{v[0]}={v[1]}" for v in VARIABLES],
)
def test_a_variable_of_the_environment_counts(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    value: str,
    read: Callable[[ServerConfig], Any],
    meant: Any,
    usual: Any,
) -> None:
    from luthier.music.mini import onnx_folder

    assert read(configured()) == usual
    places = {"FOLDER": str(tmp_path.resolve()), "MINI": str(onnx_folder())}
    monkeypatch.setenv(name, places.get(value, value))
    assert str(read(configured())) == str(places.get(str(meant), meant))


def test_host_and_port_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACESTEP_API_HOST", "localhost")
    monkeypatch.setenv("ACESTEP_API_PORT", "9001")
    assert main(["serve", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["host"], told["port"]) == ("localhost", 9001)


@pytest.mark.parametrize(
    ("wish", "folder", "planner"),
    [("auto", True, True), ("true", True, True), ("false", True, False), ("", False, False)],
)
def test_whether_there_is_a_planner_can_be_said_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wish: str, folder: bool, planner: bool
) -> None:
    monkeypatch.setenv("ACESTEP_INIT_LLM", wish)
    monkeypatch.setenv("ACESTEP_LM_MODEL_PATH", str(tmp_path) if folder else "")
    assert (configured().worker.planner is not None) == planner


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACESTEP_INIT_LLM", "true"),
        ("ACESTEP_AVG_JOB_SECONDS", "soon"),
        ("ACESTEP_GENERATION_TIMEOUT", "-1"),
        ("ACESTEP_DEVICE", "toaster"),
        ("ACESTEP_QUEUE_WORKERS", "many"),
    ],
)
def test_a_variable_that_cannot_be_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=name):
        configured()


@pytest.mark.parametrize(
    "name",
    [
        *("ACESTEP_API_WORKERS", "ACESTEP_USE_FLASH_ATTENTION", "ACESTEP_OFFLOAD_TO_CPU"),
        *("ACESTEP_OFFLOAD_DIT_TO_CPU", "ACESTEP_LM_BACKEND", "ACESTEP_LM_DEVICE"),
        *("ACESTEP_LM_OFFLOAD_TO_CPU", "ACESTEP_AVG_WINDOW", "TRITON_CACHE_DIR"),
        *("TORCHINDUCTOR_CACHE_DIR", "ACESTEP_DOWNLOAD_SOURCE", "ACESTEP_VAE_DECODE_CHUNK_SIZE"),
        *("ACESTEP_MPS_DECODE_OFFLOAD", "ACESTEP_VAE_ON_CPU", "ACESTEP_DISABLE_TQDM"),
        *("ACESTEP_DEBUG_STATS", "MAX_CUDA_VRAM", "MAX_MPS_VRAM"),
    ],
)
def test_what_a_variable_has_nothing_to_decide_about_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    usual = configured()
    monkeypatch.setenv(name, "1")
    assert configured() == replace(usual)
