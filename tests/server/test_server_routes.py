"""Every native route: what it takes, what it answers, its envelope, statuses and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.task import Task

SONG = {"prompt": "rain", "bpm": 90, "batch_size": 1}
PIECE: dict[str, Any] = {
    "path": "1.mp3",
    "seed": 5,
    "duration_s": 1.0,
    "sample_rate": 24000,
    "request": {},
    "timings_s": {"decode": 0.1},
}
RESULT = {
    "folder": "f",
    "pieces": [PIECE, PIECE | {"path": "2.mp3", "seed": 6}],
    "model": "mini",
    "planner": None,
    "prompt": "rain",
    "lyrics": "",
    "facts": {"bpm": 90, "key": None, "time_signature": "4", "duration_s": 1.0},
    "seconds": 2.0,
}


def data_of(response: Any) -> Any:
    assert response.status_code == 200, response.text
    body = response.json()
    assert set(body) == {"data", "code", "error", "timestamp", "extra"}
    assert (body["code"], body["error"]) == (200, None)
    assert body["timestamp"] > 1_600_000_000_000
    return body["data"]


def error_of(response: Any, status: int) -> str:
    body = response.json()
    assert response.status_code == body["code"] == status, response.text
    assert body["detail"] == body["error"]
    assert body["data"] is None
    return str(body["detail"])


def release(client: TestClient, **fields: Any) -> str:
    return str(data_of(client.post("/release_task", json=SONG | fields))["task_id"])


def claimed(queue: Queue) -> Task:
    task = Leases(queue).claim("w")
    assert task is not None
    return task


def polled(client: TestClient, identity: str) -> tuple[int, list[dict[str, Any]]]:
    (row,) = data_of(client.post("/query_result", json={"task_id_list": [identity]}))
    assert row["task_id"] == identity
    assert isinstance(row["result"], str)
    return row["status"], json.loads(row["result"])


def test_a_task_is_accepted_with_its_place(client: TestClient, queue: Queue) -> None:
    first = data_of(client.post("/release_task", json=SONG))
    second = data_of(client.post("/release_task", json=SONG))
    assert set(first) == {"task_id", "status", "queue_position"}
    assert (first["status"], first["queue_position"], second["queue_position"]) == ("queued", 1, 2)
    assert queue.get(first["task_id"]).request["music"]["bpm"] == 90


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", '{"prompt": "rain", "bpm": 90}'),
        ("application/vnd.x+json", '{"prompt": "rain", "bpm": 90}'),
        ("application/json; charset=utf-8", '{"prompt": "rain", "bpm": 90}'),
        ("application/x-www-form-urlencoded", "prompt=rain&bpm=90"),
        ("application/x-www-form-urlencoded", '{"prompt": "rain", "bpm": 90}'),
        ("text/plain", ' {"prompt": "rain", "bpm": 90}'),
        ("text/plain", "prompt=rain&bpm=90"),
        ("", "prompt=rain&bpm=90"),
    ],
)
def test_every_content_type(client: TestClient, queue: Queue, kind: str, body: str) -> None:
    answer = client.post("/release_task", content=body, headers={"content-type": kind})
    music = queue.get(data_of(answer)["task_id"]).request["music"]
    assert (music["prompt"], music["bpm"]) == ("rain", 90)


def test_a_multipart_form_without_files(client: TestClient, queue: Queue) -> None:
    parts = {"prompt": (None, "rain"), "metas": (None, '{"bpm": 90}')}
    music = queue.get(data_of(client.post("/release_task", files=parts))["task_id"]).request[
        "music"
    ]
    assert (music["prompt"], music["bpm"]) == ("rain", 90)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", "just words", 415),
        ("application/json", "[1, 2]", 400),
        ("application/json", "{", 400),
        ("application/json", '{"bpm": NaN}', 400),
        ("application/json", "[" * 100_000, 400),
        ("application/json", b"\xff\xfe\x00", 400),
        ("application/json", '{"prompt": "' + "x" * 1_100_000 + '"}', 413),
        ("application/x-www-form-urlencoded", "&".join(f"a{n}=1" for n in range(300)), 413),
        ("multipart/form-data", "nothing", 400),
        ("multipart/form-data; boundary=x", "no boundary", 400),
        ("multipart/form-data; boundary=x", "--x\r\n", 400),
    ],
)
def test_bodies_that_cannot_be_read(
    client: TestClient, kind: str, body: str | bytes, status: int
) -> None:
    error_of(client.post("/release_task", content=body, headers={"content-type": kind}), status)


def test_values_that_are_wrong_say_why(client: TestClient, queue: Queue) -> None:
    assert "30 to 300" in error_of(client.post("/release_task", json={"bpm": 9}), 400)
    lego = {"task_type": "lego", "src_audio_path": "nothing.wav"}
    assert "not allowed" in error_of(client.post("/release_task", json=lego), 400)
    assert "planner" in error_of(client.post("/release_task", json={"thinking": True}), 400)
    assert queue.counts().total == 0


def test_an_unknown_model_is_the_default_one_and_told(client: TestClient, queue: Queue) -> None:
    answer = client.post("/release_task", json=SONG | {"model": "acestep-v15-turbo"}).json()
    assert "there is no model 'acestep-v15-turbo'" in answer["extra"]["notes"][0]
    assert queue.get(answer["data"]["task_id"]).request["options"]["model"] is None


def test_a_full_queue_says_when_to_come_again(client: TestClient, queue: Queue) -> None:
    for _ in range(4):
        release(client)
    refused = client.post("/release_task", json=SONG)
    assert "Server busy: queue is full" in error_of(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert queue.counts().total == 4


def test_an_idempotency_key_makes_one_task(client: TestClient) -> None:
    def ask(bpm: int) -> Any:
        headers = {"Idempotency-Key": "abc"}
        return client.post("/release_task", json=SONG | {"bpm": bpm}, headers=headers)

    assert data_of(ask(90))["task_id"] == data_of(ask(90))["task_id"]
    assert "another request" in error_of(ask(91), 422)


def test_polling_an_unknown_task(client: TestClient) -> None:
    assert polled(client, "nothing") == (0, [])


def test_polling_a_queued_task(client: TestClient) -> None:
    status, (item,) = polled(client, release(client))
    assert status == 0
    assert item.pop("create_time") > 1_600_000_000
    assert item == {
        "file": "",
        "wave": "",
        "status": 0,
        "env": "development",
        "prompt": "",
        "lyrics": "",
        "metas": {},
        "progress": 0.0,
        "stage": "queued",
        "error": None,
        "eta_seconds": 5.0,
    }


def test_polling_a_running_task(client: TestClient, queue: Queue) -> None:
    identity = release(client)
    Leases(queue).report(claimed(queue), 0.6, "Decoding audio...")
    status, (item,) = polled(client, identity)
    assert (status, item["status"], item["progress"], item["stage"]) == (
        0,
        0,
        0.6,
        "Decoding audio...",
    )


def test_polling_a_succeeded_task(client: TestClient, queue: Queue) -> None:
    identity = release(client, lyrics="la")
    Leases(queue).finish(claimed(queue), RESULT)
    status, (first, second) = polled(client, identity)
    assert (status, first["status"], first["progress"]) == (1, 1, 1.0)
    assert first["file"] == f"/v1/audio?path={identity}%2Ff%2F1.mp3"
    assert second["file"].endswith("2.mp3")
    assert (first["wave"], first["stage"], first["env"]) == ("", "succeeded", "development")
    assert first["metas"] == {
        "bpm": 90,
        "duration": 1.0,
        "genres": "N/A",
        "keyscale": "N/A",
        "timesignature": "4",
        "prompt": "rain",
        "lyrics": "la",
    }
    assert (first["seed_value"], first["dit_model"], first["lm_model"]) == ("5,6", "mini", "")
    assert "Total: 2 s" in first["generation_info"]


def test_polling_a_failed_task_tells_the_error(client: TestClient, queue: Queue) -> None:
    identity = release(client)
    Leases(queue).fail(claimed(queue), "no sound in it.")
    status, (item,) = polled(client, identity)
    assert (status, item["status"], item["progress"]) == (2, 2, 0.0)
    assert (item["stage"], item["error"]) == ("failed", "no sound in it.")


@pytest.mark.parametrize("damage", ['{"pieces": 1}', '{"pieces": [{}]}', "[]", "\xff"])
def test_a_damaged_result_is_one_failed_task(client: TestClient, queue: Queue, damage: str) -> None:
    bad, good = release(client), release(client)
    for _ in range(2):
        Leases(queue).finish(claimed(queue), RESULT)
    with queue.store.transaction() as connection:
        connection.execute("UPDATE tasks SET result = ? WHERE id = ?", (damage, bad))
    assert polled(client, good)[0] == 1
    status, (item,) = polled(client, bad)
    assert status == 2
    assert "damaged" in item["error"]
    for path in ("/v1/tasks", "/v1/capabilities", "/v1/stats"):
        data_of(client.get(path))


def test_many_are_polled_at_once_and_as_text(client: TestClient) -> None:
    ids = [release(client), release(client), "nothing"]
    listed = data_of(client.post("/query_result", json={"task_id_list": json.dumps(ids)}))
    assert [row["task_id"] for row in listed] == ids
    form = {"task_id_list": json.dumps(ids)}
    assert len(data_of(client.post("/query_result", data=form))) == 3
    assert data_of(client.post("/query_result", json={})) == []
    error_of(client.post("/query_result", json={"task_id_list": "["}), 400)
    error_of(client.post("/query_result", json={"task_id_list": {"a": 1}}), 400)
    error_of(client.post("/query_result", json={"task_id_list": ["x"] * 1001}), 400)
    error_of(client.post("/query_result", content=b'{"task_id_list": ["\\ud800"]}'), 400)


def test_health(client: TestClient) -> None:
    data = data_of(client.get("/health"))
    assert (data["status"], data["service"], data["version"]) == ("ok", "ACE-Step API", "1.0")
    assert (data["models_initialized"], data["llm_initialized"]) == (False, False)
    assert {"loaded_model", "loaded_lm_model"} <= set(data)


def test_models(client: TestClient, queue: Queue) -> None:
    Leases(queue).show("w", ["mini"])
    data = data_of(client.get("/v1/models"))
    tasks = ["text2music", "cover", "repaint", "lego", "extract", "complete"]
    row = {"name": "mini", "is_default": True, "is_loaded": True, "supported_task_types": tasks}
    assert data["models"] == [row]
    assert (data["default_model"], data["lm_models"], data["llm_initialized"]) == (
        "mini",
        [],
        False,
    )


def test_stats(client: TestClient, queue: Queue) -> None:
    release(client)
    data = data_of(client.get("/v1/stats"))
    assert data["jobs"] == {
        "total": 1,
        "queued": 1,
        "running": 0,
        "succeeded": 0,
        "failed": 0,
        "cancelled": 0,
    }
    assert (data["queue_size"], data["queue_maxsize"], data["avg_job_seconds"]) == (1, 4, 5.0)


def test_random_samples(client: TestClient) -> None:
    simple = data_of(client.post("/create_random_sample", json={}))
    assert set(simple) == {"description", "instrumental", "vocal_language"}
    for _ in range(40):  # of sixteen, one is longer than mini plays
        custom = data_of(client.post("/create_random_sample", json={"sample_type": "custom_mode"}))
        names = "think caption lyrics bpm duration keyscale language timesignature"
        assert set(custom) == set(names.split())
        assert custom["duration"] <= 120
    data_of(client.post("/release_task", json={"metas": custom}))


def test_format_input_needs_a_planner(client: TestClient) -> None:
    assert "planner" in error_of(client.post("/format_input", json={"prompt": "x"}), 503)


def test_what_is_not_there_has_the_same_shape(client: TestClient) -> None:
    error_of(client.get("/nothing"), 404)
    error_of(client.get("/release_task"), 405)
    error_of(client.get("/v1/audio"), 400)


def test_capabilities(client: TestClient, queue: Queue) -> None:
    release(client, audio_duration=10, batch_size=2)
    Leases(queue).finish(claimed(queue), RESULT, played_s=20.0)
    data = data_of(client.get("/v1/capabilities"))
    (model,) = data["models"]
    assert (model["name"], model["longest_s"], model["sample_rate"]) == ("mini", 120.0, 24000)
    assert model["recommended"]["inference_steps"] == 24
    assert model["measured"] == {
        "tasks": 1,
        "seconds_per_audio_second": 1.0,
        "by_kind": {
            "text2music": {"fixed_seconds": 0, "seconds_per_step_second": round(1 / 24, 6)}
        },
    }
    assert data["limits"]["upload_bytes"] == 10_000
    assert "bpm" in {field["name"] for field in data["fields"]}


def test_the_description_of_the_interface_names_every_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/release_task", "/query_result", "/v1/audio", "/health"} <= set(paths)
