"""Host names, origins, headers, the log, and the door: what stands before every route."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from test_server_routes import SONG, data_of, error_of

from luthier.errors import RequestError
from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.serve import check_door

ORIGIN = "http://127.0.0.1:8001"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8001", "", "[::1", "a@b"])
def test_another_host_name_is_not_answered(client: TestClient, host: str) -> None:
    error_of(client.get("/health", headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["localhost:8001", "127.0.0.1", "[::1]:8001", "LOCALHOST"])
def test_this_machine_s_names_are_answered(client: TestClient, host: str) -> None:
    data_of(client.get("/health", headers={"Host": host}))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1@evil"],
)
def test_pages_of_elsewhere_may_not_use_the_server(client: TestClient, origin: str) -> None:
    headers = {"Origin": origin}
    error_of(client.post("/release_task", json=SONG, headers=headers), 403)
    error_of(client.delete("/v1/tasks/x", headers=headers), 403)
    assert "access-control-allow-origin" not in client.get("/health", headers=headers).headers


def test_pages_of_this_machine_and_named_ones_may(config: ServerConfig) -> None:
    app = create_app(replace(config, origins=("https://daw.example",)))
    with TestClient(app, base_url=ORIGIN) as client:
        for origin in ("http://localhost:3000", "https://daw.example"):
            ask = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            preflight = client.options("/release_task", headers=ask)
            assert preflight.headers["access-control-allow-origin"] == origin
            answer = client.post("/release_task", json=SONG, headers={"Origin": origin})
            assert answer.headers["access-control-allow-origin"] == origin


def test_answers_have_safe_headers(client: TestClient) -> None:
    for path in ("/health", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in headers


def test_the_log_knows_no_prompts_keys_or_forged_lines(
    locked: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    from luthier.server.http.logs import JsonLines

    with caplog.at_level(logging.INFO, "luthier.server"):
        headers = {"Authorization": "Bearer one"}
        locked.post("/release_task", json={"prompt": "a secret tune"}, headers=headers)
        locked.get("/v1/audio?path=private&signature=s1gn", headers=headers)
        locked.get("/a%0a%7b%22level%22:%22error%22%7d")
    lines = [JsonLines().format(record) for record in caplog.records]
    assert len(lines) >= 3
    for line in lines:
        assert "\n" not in line
        assert isinstance(json.loads(line), dict)
        assert not any(word in line for word in ("secret", "Bearer", "private", "s1gn"))


def test_other_machines_need_a_key() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.2"):
        check_door(host, (), is_open=False)
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example"):
        with pytest.raises(RequestError, match="--api-key"):
            check_door(host, (), is_open=False)
        check_door(host, ("key",), is_open=False)
        check_door(host, (), is_open=True)
