"""Webhooks: told once a task has ended, signed, again after a failure, and only where allowed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from luthier.errors import RequestError
from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.service import Service
from luthier.server.webhooks.allowed_hosts import (
    WebhookError,
    WebhookHosts,
    allowed_host,
    is_public,
)
from luthier.server.webhooks.outbox import MOST_ATTEMPTS, Signer, Webhooks
from luthier.server.webhooks.sender import WebhookSender

BASE = "http://127.0.0.1:8001"


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it is told, and answers what is written."""

    answers: list[int]
    heard: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append(({k.lower(): v for k, v in self.headers.items()}, body))
        status = self.answers.pop(0) if self.answers else 204
        if status == 0:  # hangs up
            self.connection.close()
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/other")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving(*answers: int) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    kind = type("Kept", (Receiver,), {"answers": list(answers), "heard": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", kind.heard
        http.shutdown()


def until(is_so: Callable[[], Any], patience_s: float = 20) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def telling(config: ServerConfig, address: str) -> Iterator[tuple[TestClient, Service]]:
    app = create_app(replace(config, webhook_hosts=(allowed_host(address),)))
    with TestClient(app, base_url=BASE) as client:
        yield client, app.state.service


def submitted(client: TestClient, webhook: str, **headers: str) -> str:
    body = {"prompt": "x", "webhook": webhook}
    answer = client.post("/release_task", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["task_id"])


def test_an_ended_task_is_told_signed_and_once(config: ServerConfig) -> None:
    with receiving() as (address, heard), telling(config, address) as (client, service):
        identity = submitted(client, f"{address}/hook?of=mine")
        time.sleep(0.7)
        assert heard == []  # it has not ended
        client.post(f"/v1/tasks/{identity}/cancel")
        until(lambda: heard)
        headers, body = heard[0]
        said = json.loads(body)
        assert said["type"] == "task.cancelled"
        assert said["data"] == client.get(f"/v1/tasks/{identity}").json()["data"]
        text = (service.places.home / "webhooks.secret").read_text()
        assert text.startswith("whsec_")
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.new(base64.b64decode(text[6:]), signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 30
        assert headers["host"] == address.removeprefix("http://")
        time.sleep(1.2)
        assert len(heard) == 1
        # Tried again, it ends again, and that is told under another id.
        client.post(f"/v1/tasks/{identity}/retry")
        client.post(f"/v1/tasks/{identity}/cancel")
        until(lambda: len(heard) == 2)
        assert heard[1][0]["webhook-id"] != headers["webhook-id"]


def test_a_failure_is_tried_again_with_the_same_id(config: ServerConfig) -> None:
    with (
        receiving(500, 0, 302) as (address, heard),
        telling(config, address) as (client, service),
    ):
        service.webhooks._first_s = 0.05
        client.post(f"/v1/tasks/{submitted(client, address)}/cancel")
        until(lambda: len(heard) == 4)
        assert len({headers["webhook-id"] for headers, _ in heard}) == 1
        until(lambda: not service.webhooks.due(9))


def test_what_was_not_told_is_told_after_a_restart(config: ServerConfig) -> None:
    with receiving() as (address, heard):
        off = create_app(replace(config, webhook_hosts=(allowed_host(address),)))
        service = off.state.service  # without its lifespan: nothing is sent
        client = TestClient(off, base_url=BASE)
        client.post(f"/v1/tasks/{submitted(client, address)}/cancel")
        service.queue.store.close()
        assert heard == []
        with telling(config, address):
            until(lambda: len(heard) == 1)


def test_a_receiver_that_hangs_holds_nobody_up(config: ServerConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with telling(config, address) as (client, service):
            client.post(f"/v1/tasks/{submitted(client, address)}/cancel")
            until(lambda: service.webhooks.due(9))
            time.sleep(0.7)
            started = time.monotonic()
            for _ in range(20):
                assert client.get("/v1/tasks").status_code == 200
            assert time.monotonic() - started < 5
            deaf.close()


def test_attempts_are_bounded_and_gone_is_gone(config: ServerConfig) -> None:
    service = Service(config)
    webhooks = Webhooks(service.queue.store, first_s=0)
    task = service.queue.submit({"kind": "music"}).task
    service.queue.cancel(task.id)
    webhooks.add(task.id, "https://hooks.example.com")
    for attempt in range(MOST_ATTEMPTS):
        (due,) = webhooks.due(9)
        assert webhooks.failed(due, "no") is (attempt < MOST_ATTEMPTS - 1)
    assert webhooks.due(9) == []
    other = service.queue.submit({"kind": "music"}).task
    webhooks.add(other.id, "https://hooks.example.com")
    service.queue.cancel(other.id)
    service.queue.delete(other.id)
    webhooks.forget_gone()
    assert len(service.queue.store.rows("SELECT * FROM webhooks")) == 1
    service.queue.store.close()


def test_they_are_off_by_default_and_refused_elsewhere(client: TestClient) -> None:
    answer = client.post("/release_task", json={"prompt": "x", "webhook": "https://example.com"})
    assert answer.status_code == 400
    assert "webhooks are off" in answer.json()["detail"]
    assert client.get("/v1/tasks").json()["data"]["tasks"] == []


HOSTS = WebhookHosts([*map(allowed_host, ("hooks.example.com", ".shop.example", "localhost:8443",
                                          "http://10.0.0.5:9000"))])  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/x?y=1",
        "https://HOOKS.example.com./x",
        "https://hooks.example.com:443",
        "https://a.b.shop.example/hook",
        "https://localhost:8443/",
        "http://10.0.0.5:9000/",
    ],
)
def test_what_is_allowed(url: str) -> None:
    HOSTS.check(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",  # not https
        "https://hooks.example.com:8443/",  # another port
        "https://example.com/",
        "https://hooks.example.com.evil.test/",
        "https://evilshop.example/",
        "https://shop.example/",
        "https://hooks.example.com@evil.test/",
        "https://evil.test#hooks.example.com",
        "https://evil.test\\@hooks.example.com/",
        "https://me:pw@hooks.example.com/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::1]/",
        "http://10.0.0.5/",
        "http://10.0.0.5:9001/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "https://hooks.example.com/\r\nX-Evil: 1",
        "https://hooks.exаmple.com/",  # a Cyrillic а
        "https://hooks.example.com:99999/",
        "https:///x",
        "hooks.example.com",
        "",
        "https://hooks.example.com/" + "x" * 3000,
    ],
)
def test_what_is_not(url: str) -> None:
    with pytest.raises(RequestError, match="webhook"):
        HOSTS.check(url)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "::1", "::", "fe80::1", "fd00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "255.255.255.255"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


def test_public_addresses() -> None:
    assert is_public(ip_address("93.184.216.34"))
    assert is_public(ip_address("2606:2800:220:1::"))


def found(*addresses: str) -> Callable[..., list[Any]]:
    return lambda *_, **__: [(socket.AF_INET, 1, 6, "", (a, 443)) for a in addresses]


def test_a_name_that_means_a_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    # The resolver's answer is what an attacker controls; one private address among many is enough.
    monkeypatch.setattr(socket, "getaddrinfo", found("93.184.216.34", "127.0.0.1"))
    with pytest.raises(WebhookError, match="private address"):
        HOSTS.target("https://a.shop.example/")
    assert HOSTS.target("https://localhost:8443/x").url == "https://93.184.216.34:8443/x"
    monkeypatch.setattr(socket, "getaddrinfo", found("93.184.216.34"))
    target = HOSTS.target("https://a.shop.example/x?y=1#z")
    # The connection goes to what was checked, under the name that was asked for.
    assert target == ("https://93.184.216.34:443/x?y=1", "a.shop.example", "a.shop.example")


@pytest.mark.parametrize("text", ["", ".", "ftp://x", "x/path", "x:port", "http://"])
def test_flags_that_name_no_host(text: str) -> None:
    with pytest.raises(RequestError, match="--webhook-host"):
        allowed_host(text)


def test_a_secret_is_kept_and_private_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.secret"
    headers = Signer(path).headers("a", b"b", 7)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer(path).headers("a", b"b", 7) == headers
    path.write_text("whsec_c2hvcnQ=")
    with pytest.raises(RequestError, match="no secret for webhooks"):
        Signer(path)


def test_the_url_is_neither_logged_nor_told(
    config: ServerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "luthier.server")
    with receiving(500) as (address, heard), telling(config, address) as (client, _):
        identity = submitted(client, f"{address}/a-secret-path")
        client.post(f"/v1/tasks/{identity}/cancel")
        until(lambda: heard)
        until(lambda: any(r.name == "luthier.server.webhooks.outbox" for r in caplog.records))
        told = client.get(f"/v1/tasks/{identity}").text + json.dumps([*map(vars, caplog.records)],
                                                                     default=str)  # fmt: skip
        assert "a-secret-path" not in told


def test_the_sender_stops_at_once_when_idle(config: ServerConfig, tmp_path: Path) -> None:
    service = Service(config)
    hosts, signer = WebhookHosts(()), Signer(tmp_path / "s")
    sender = WebhookSender(service.webhooks, hosts, signer, lambda _: {})
    sender.start()
    started = time.monotonic()
    sender.stop()
    assert time.monotonic() - started < 3
    service.queue.store.close()
