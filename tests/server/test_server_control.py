"""What upstream lacks: list, cancel, retry, delete, follow."""

from __future__ import annotations

import json

from starlette.testclient import TestClient
from test_server_routes import RESULT, claimed, data_of, error_of, polled, release

from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue


def test_tasks_are_listed_cancelled_retried_and_deleted(client: TestClient, queue: Queue) -> None:
    first, second, third = (release(client) for _ in range(3))
    page = data_of(client.get("/v1/tasks", params={"limit": 2}))
    assert [task["task_id"] for task in page["tasks"]] == [third, second]
    rest = data_of(client.get("/v1/tasks", params={"limit": 2, "before": page["next"]}))
    assert [task["task_id"] for task in rest["tasks"]] == [first]
    assert rest["next"] is None

    assert data_of(client.get(f"/v1/tasks/{second}"))["queue_position"] == 2
    assert data_of(client.post(f"/v1/tasks/{first}/cancel"))["state"] == "cancelled"
    status, (item,) = polled(client, first)
    assert (status, item["stage"], item["error"]) == (2, "cancelled", "the task was cancelled.")
    listed = data_of(client.get("/v1/tasks", params={"state": "cancelled"}))
    assert [task["task_id"] for task in listed["tasks"]] == [first]
    assert data_of(client.post(f"/v1/tasks/{first}/retry"))["queue_position"] == 3
    error_of(client.post(f"/v1/tasks/{first}/retry"), 409)
    running = claimed(queue)
    error_of(client.delete(f"/v1/tasks/{running.id}"), 409)
    assert data_of(client.delete(f"/v1/tasks/{first}"))["deleted"] is True
    for path in ("", "/events"):
        assert "no such task" in error_of(client.get(f"/v1/tasks/{first}{path}"), 404)
    error_of(client.post(f"/v1/tasks/{first}/cancel"), 404)
    error_of(client.delete(f"/v1/tasks/{first}"), 404)
    error_of(client.get("/v1/tasks", params={"limit": 0}), 400)
    error_of(client.get("/v1/tasks", params={"state": "lost"}), 400)


def test_a_task_is_followed_to_its_end(client: TestClient, queue: Queue) -> None:
    identity = release(client)
    leases = Leases(queue)
    leases.finish(claimed(queue), RESULT)
    with client.stream("GET", f"/v1/tasks/{identity}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event, data = "".join(answer.iter_text()).strip().split("\n")
    assert event == "event: succeeded"
    assert len(json.loads(data.removeprefix("data: "))["results"]) == 2
