"""Pages of elsewhere in a browser on this machine, and names that are made to mean it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from attacked import ORIGIN
from starlette.testclient import TestClient
from test_server_routes import SONG, error_of

from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.queue.queue import Queue

FOREIGN = {
    "another site": "https://evil.example",
    "a sandbox": "null",
    "a name that begins alike": "http://127.0.0.1.evil.example",
    "a name that ends alike": "http://evil-127.0.0.1",
    "a user name": "http://localhost@evil.example",
    "a port that is none": "http://localhost:8001.evil.example",
    "a line end": "http://localhost\t.evil.example",
    "another scheme": "ftp://localhost",
    "a page from the disk": "file://",
    "an extension": "chrome-extension://abcdef",
    "another way to say it": "http://0x7f000001",
    "a subdomain": "http://evil.localhost.example",
    "empty": "",
}
foreign = pytest.mark.parametrize("origin", FOREIGN.values(), ids=FOREIGN.keys())
PART = '--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n--b--\r\n'
SIMPLE = {
    "plain text": ("text/plain", '{"prompt":"x"}'),
    "a form": ("application/x-www-form-urlencoded", "prompt=x"),
    "a form with files": ("multipart/form-data; boundary=b", PART),
}


@foreign
def test_a_page_of_elsewhere_reads_nothing(client: TestClient, origin: str) -> None:
    for path in ("/v1/stats", "/v1/tasks", "/health", "/v1/audio?path=x", "/v1/tasks/x/events"):
        headers = client.get(path, headers={"Origin": origin}).headers
        assert "access-control-allow-origin" not in headers
    ask = {"Origin": origin, "Access-Control-Request-Method": "POST",
           "Access-Control-Request-Headers": "Authorization"}  # fmt: skip
    preflight = client.options("/release_task", headers=ask)
    assert "access-control-allow-origin" not in preflight.headers


@foreign
@pytest.mark.parametrize("kind", SIMPLE)
def test_a_form_that_needs_no_preflight_changes_nothing(
    client: TestClient, queue: Queue, origin: str, kind: str
) -> None:
    content_type, body = SIMPLE[kind]
    headers = {"Origin": origin, "Content-Type": content_type}
    error_of(client.post("/release_task", content=body, headers=headers), 403)
    assert queue.counts().total == 0


@pytest.mark.parametrize(
    "path", ["/v1/lora/unload", "/v1/reinitialize", "/v1/init", "/v1/jobs", "/v1/training/stop"]
)
def test_no_route_is_forgotten(client: TestClient, path: str) -> None:
    error_of(client.post(path, json={}, headers={"Origin": "https://evil.example"}), 403)


def test_credentials_are_never_shared_with_another_origin(client: TestClient) -> None:
    headers = client.get("/health", headers={"Origin": "http://localhost:3000"}).headers
    assert headers["access-control-allow-origin"] == "http://localhost:3000"  # never *
    assert "access-control-allow-credentials" not in headers
    assert "origin" in headers["vary"].lower()


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8001", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("localhost@evil.example", "evil.example#localhost", "127.0.0.1:8001@evil.example"),
        *(
            "2130706433",
            "0x7f.1",
            "127.1",
            "0",
            "[::ffff:127.0.0.1]",
            "localhost.",
            "xn--localhost",
        ),
    ],
)
def test_a_name_that_was_made_to_mean_this_machine(client: TestClient, host: str) -> None:
    for path in ("/", "/v1/tasks", "/health", "/openapi.json"):
        error_of(client.get(path, headers={"Host": host}), 403)


@pytest.fixture
def wide_open(config: ServerConfig) -> Iterator[TestClient]:
    """As with `--host 0.0.0.0 --allow-open`: no key, and any address of this machine."""
    config = replace(config, hosts=(), origins=("https://daw.example",))
    with TestClient(create_app(config), base_url=ORIGIN) as client:
        yield client


def test_an_open_server_answers_to_no_name_of_a_stranger(wide_open: TestClient) -> None:
    for host in ("evil.example:8001", "evil.example", "192.168.1.5.evil.example"):
        rebound = {"Host": host, "Origin": f"http://{host}"}
        error_of(wide_open.post("/release_task", json=SONG, headers=rebound), 403)
        error_of(wide_open.get("/v1/tasks", headers={"Host": host}), 403)
    for host in (
        "192.168.1.5:8001",
        "[fd00::5]:8001",
        "studio:8001",
        "studio.local",
        "daw.example",
    ):
        assert wide_open.get("/v1/tasks", headers={"Host": host}).status_code == 200


def test_the_headers_that_proxies_set_move_nothing(client: TestClient) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "X-Original-URL": "/v1/tasks",
               "X-Rewrite-URL": "/v1/tasks", "Forwarded": "host=evil.example"}  # fmt: skip
    assert client.get("/health", headers=headers).json()["data"]["status"] == "ok"
    evil = {"Host": "evil.example", "X-Forwarded-Host": "127.0.0.1:8001"}
    error_of(client.get("/health", headers=evil), 403)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_a_method_is_what_the_first_line_says(client: TestClient, queue: Queue, name: str) -> None:
    identity = client.post("/release_task", json=SONG).json()["data"]["task_id"]
    assert client.get(f"/v1/tasks/{identity}", headers={name: "DELETE"}).status_code == 200
    assert client.post(f"/v1/tasks/{identity}?_method=DELETE").status_code == 405
    assert queue.counts().total == 1


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PUT", "PATCH", "PROPFIND", "MOVE"])
def test_other_methods(client: TestClient, method: str) -> None:
    answer = client.request(method, "/v1/tasks", headers={"Authorization": "Bearer s3cret"})
    assert answer.status_code == 405
    assert "s3cret" not in answer.text


def test_no_page_may_be_put_into_a_frame_or_sniffed(client: TestClient) -> None:
    for path in ("/", "/health", "/openapi.json", "/nothing", "/v1/audio?path=x"):
        headers = client.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
