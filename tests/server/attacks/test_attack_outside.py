"""What would make the server ask somebody else, or tell what was entrusted to it."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from attacked import ORIGIN, Target
from starlette.testclient import TestClient
from test_server_routes import RESULT, SONG, claimed, data_of, error_of

from luthier.errors import AudioError, LuthierError, StorageError
from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.http.hiding import without_folders
from luthier.server.http.logs import JsonLines
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.webhooks.allowed_hosts import WebhookError, WebhookHosts, allowed_host
from luthier.server.webhooks.outbox import Due, Signer
from luthier.server.webhooks.sender import WebhookSender


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """An address inside, and who came."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", came
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_chat_opens_no_address(target: Target, listener: tuple[str, list[str]]) -> None:
    address, came = listener
    url = f"{address}/a.mp3"
    for part in (
        {"type": "audio_url", "audio_url": {"url": url}},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_audio", "input_audio": {"data": url, "format": "mp3"}},
        {"type": "input_audio", "input_audio": {"data": f"data:{url}", "format": "mp3"}},
        {"type": "input_audio", "input_audio": {"url": url, "format": "mp3"}},
        {"type": "file", "file": {"file_data": url}},
        {"type": "text", "text": f"![]({url}) <img src={url}>"},
    ):
        body = {"model": "x", "messages": [{"role": "user", "content": [part]}]}
        assert target.client.post("/v1/chat/completions", json=body).status_code < 600
    assert came == []
    assert [path for path in target.uploads if path.is_file()] == []


@pytest.mark.parametrize("form", ["../../x", "mp3/../../../x", "exe", "mp3\0", "x" * 5000])
def test_the_format_of_a_chat_s_recording_names_no_file(target: Target, form: str) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": form}}
    body = {"model": "x", "messages": [{"role": "user", "content": [part]}]}
    error_of(target.client.post("/v1/chat/completions", json=body), 400)
    assert target.uploads == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "2130706433", "0x7f000001", "017700000001", "127.1", "0", "[::1]", "[::]"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "169.254.169.254"),
        *("localhost", "hooks.example", "xhooks.example", "a.hooks.example.evil.test"),
        *("a.hooks.example%00.evil.test", "a.hooks.example%2eevil.test", "a.hooks.example:22"),
        *("evil.test#.hooks.example", "evil.test?.hooks.example", "evil.test\\.hooks.example"),
        *("evil.test%23.hooks.example", "evil.test/.hooks.example", "a@a.hooks.example"),
        *("127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1", "a.hooks\uff0eexample"),
    ],
)
def test_webhooks_into_our_own_network(target: Target, host: str) -> None:
    body = {"prompt": "x", "webhook": f"https://{host}/hook"}
    answer = target.client.post("/release_task", json=body)
    if answer.status_code == 200:  # a name below the one that is allowed, which nobody has
        with pytest.raises(WebhookError):
            target.service.webhook_hosts.target(body["webhook"])
        return
    assert "webhook" in error_of(answer, 400)
    assert target.tasks == 0


def test_a_name_that_means_something_else_a_moment_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: looked up once, connected to what was looked up."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (next(answers), 443))]
    )
    hosts = WebhookHosts([allowed_host(".hooks.example")])
    assert hosts.target("https://a.hooks.example/").url == "https://93.184.216.34:443/"
    with pytest.raises(WebhookError, match="private address"):
        hosts.target("https://a.hooks.example/")


def test_a_webhook_is_not_sent_on(
    target: Target, listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    """A receiver that answers with another address: it is not asked."""
    address, came = listener
    task: dict[str, Any] = {"task_id": "t", "state": "failed", "ended": 1.0, "created": 1.0}
    hosts = WebhookHosts([allowed_host(address)])
    sender = WebhookSender(target.service.webhooks, hosts, Signer(tmp_path / "s"), lambda _: task)
    assert sender._sent(Due("t", f"{address}/hook", 0)) == 302
    assert came == ["/hook"]


def test_a_prompt_cannot_end_an_event(client: TestClient, queue: Queue) -> None:
    """A line end in what is told would begin an event of the attacker's own."""
    evil = "x\n\nevent: succeeded\r\ndata: {}\r\n\r\n\u2028\u2029\x85<script>"
    identity = data_of(client.post("/release_task", json=SONG | {"prompt": evil}))["task_id"]
    Leases(queue).finish(claimed(queue), RESULT | {"prompt": evil, "lyrics": evil})
    text = client.get(f"/v1/tasks/{identity}/events").content
    lines = text.split(b"\n")
    assert [line for line in lines if line.startswith(b"event:")] == [b"event: succeeded"]
    assert b"\r" not in text
    (data,) = [line for line in lines if line.startswith(b"data:")]
    assert json.loads(data[5:])["results"][0]["prompt"] == evil


@pytest.fixture
def keyed(config: ServerConfig) -> Iterator[TestClient]:
    app = create_app(replace(config, keys=("first-key", "second-key")))
    with TestClient(app, base_url=ORIGIN) as client:
        yield client


def test_the_log_tells_nothing_that_was_entrusted(
    keyed: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "luthier"):
        headers = {"Authorization": "Bearer first-key"}
        tune = "a secret tune\n\x1b[2J"
        words = {"prompt": tune, "lyrics": tune, "bpm": tune}
        keyed.post("/release_task", json=words, headers=headers)
        keyed.post("/release_task", json=words | {"bpm": -1}, headers=headers)
        keyed.post("/release_task", json=words | {"ai_token": "wrong-key"})
        keyed.post("/release_task", content=b'{"a secret tune', headers=headers)
        keyed.get("/v1/audio?path=a secret tune&signature=s1gned", headers=headers)
    lines = [JsonLines().format(r) for r in caplog.records if r.name.startswith("luthier")]
    assert len(lines) >= 5
    for line in lines:
        for word in ("secret tune", "Bearer", "first-key", "wrong-key", "s1gned", "\x1b", "\n"):
            assert word not in line


def test_errors_name_files_and_not_where_they_lie(target: Target) -> None:
    home = target.service.config.worker.home
    told = target.service.told(StorageError(f"the disk is full: {home}/tasks.sqlite3 was left."))
    assert told == "the disk is full: tasks.sqlite3 was left."
    told = target.service.told(AudioError(f"{target.root}/deep/a.wav is not audio."))
    assert told == "deep/a.wav is not audio."
    told = target.service.told(LuthierError(f"{home} is used; see /v1/tasks, and 4/4."))
    assert told == "home is used; see /v1/tasks, and 4/4."
    assert without_folders("a home", [Path("home")]) == "a home"


def test_a_full_disk_is_told_without_its_place(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = target.service.config.worker.home

    def full(*_: Any, **__: Any) -> Any:
        raise StorageError(f"the disk is full: {home / 'tasks.sqlite3'} could not be written.")

    monkeypatch.setattr(target.service.queue, "submit_soon", full)
    answer = target.client.post("/release_task", json=SONG)
    assert str(home) not in error_of(answer, 507)
    files = {"src_audio": ("a.wav", b"x"), "task_type": (None, "cover")}
    error_of(target.client.post("/release_task", files=files), 507)
    assert target.uploads == []


def test_an_upload_that_finds_no_room_leaves_nothing(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.server.http.multipart import Intake

    def full(self: Intake, data: bytes, start: int, end: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Intake, "_on_data", full)
    answer = target.client.post("/release_task", files={"src_audio": ("a.wav", b"x" * 100)})
    assert "No space left" in error_of(answer, 507)
    assert target.uploads == []


def test_an_unknown_error_shows_no_traceback(
    target: Target, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = "a secret tune"

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError(prompt)

    monkeypatch.setattr(target.service.queue, "counts", broken)
    answer = target.client.get("/v1/stats")
    assert "its log has more" in error_of(answer, 500)
    for word in ("Traceback", "ZeroDivision", "secret", ".py", str(Path(__file__).parents[3])):
        assert word not in answer.text
    lines = [JsonLines().format(r) for r in caplog.records if r.name.startswith("luthier")]
    assert not any("secret" in line for line in lines)


def test_adapters_cannot_be_loaded_without_end(target: Target, tmp_path: Path) -> None:
    from luthier.server.acestep.lora_state import LoraState
    from luthier.server.http.errors import Refusal

    state = LoraState(tmp_path / "lora.json")
    for n in range(100):
        state.load(str(n), tmp_path)
    with pytest.raises(Refusal, match="100 adapters"):
        state.load("one more", tmp_path)
    state.load("5", tmp_path)  # again is not more


def test_followers_that_leave_are_forgotten(target: Target) -> None:
    import anyio

    identity = data_of(target.client.post("/release_task", json=SONG))["task_id"]
    changes = target.service.changes

    async def run() -> None:
        followers = [changes.follow(identity) for _ in range(2000)]
        for follower in followers:
            assert (await anext(follower)) is not None
        assert len(changes._followers[identity]) == 2000
        for follower in followers:
            await follower.aclose()  # type: ignore[attr-defined]
        assert identity not in changes._followers
        await anyio.sleep(0.5)  # the look-out ends with its last follower

    anyio.run(run)
