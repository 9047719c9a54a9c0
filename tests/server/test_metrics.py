"""`/metrics`: true numbers, few labels, nothing of what was asked for; and who may read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from test_server_routes import RESULT, claimed, release

from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue


def numbers(client: TestClient) -> dict[tuple[str, ...], float]:
    """(name, label value, ...) → value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_tasks_by_state_kind_and_model(client: TestClient, queue: Queue) -> None:
    release(client)
    release(client)
    Leases(queue).finish(claimed(queue), RESULT)
    for _ in range(2):  # looking does not count twice
        found = numbers(client)
    assert found["luthier_tasks", "queued"] == 1
    assert found["luthier_tasks", "succeeded"] == 1
    assert found["luthier_queue_limit",] == 4
    labels = ("text2music", "mini", "succeeded")
    assert found["luthier_task_run_seconds_count", *labels] == 1
    assert found["luthier_task_wait_seconds_count", *labels] == 1
    assert found["luthier_worker_restarts_total",] == 0
    assert found["luthier_disk_free_bytes",] > 0
    assert found["process_resident_memory_bytes",] > 0


def test_requests_by_route_not_by_path(client: TestClient) -> None:
    for n in range(30):
        client.get(f"/v1/tasks/{n}")
        client.get(f"/nowhere/{n}")
        client.request(f"ODD{n}", "/health")
    found = numbers(client)
    assert found["luthier_request_seconds_count", "GET", "/v1/tasks/{task_id}", "404"] == 30
    assert found["luthier_request_seconds_count", "GET", "other", "404"] == 30
    assert found["luthier_request_seconds_count", "other", "/health", "405"] == 30
    assert sum(name[0] == "luthier_request_seconds_count" for name in found) == 3


def test_no_word_of_a_request_is_in_it(client: TestClient) -> None:
    release(client, prompt="my secret song", model="my secret model")
    assert "secret" not in client.get("/metrics").text


@pytest.fixture
def scraped(config: ServerConfig) -> Iterator[TestClient]:
    with TestClient(
        create_app(replace(config, keys=("one",), open_metrics=True)),
        base_url="http://127.0.0.1:8001",
    ) as client:
        yield client


def test_it_needs_a_key_unless_opened(locked: TestClient, scraped: TestClient) -> None:
    assert locked.get("/metrics").status_code == 401
    assert locked.get("/metrics", headers={"Authorization": "Bearer two"}).status_code == 200
    assert scraped.get("/metrics").status_code == 200
    assert scraped.get("/v1/stats").status_code == 401
