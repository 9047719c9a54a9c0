"""Who gets in, what may be read, what may be uploaded; each line here was a way in somewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from starlette.testclient import TestClient
from test_server_routes import RESULT, SONG, claimed, data_of, error_of

from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.http.auth import Links
from luthier.server.http.errors import Refusal
from luthier.server.http.paths import result_file
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.retention import Places

ORIGIN = "http://127.0.0.1:8001"
POSTS = ("/release_task", "/query_result", "/create_random_sample", "/format_input")
GETS = ("/v1/models", "/v1/stats", "/v1/capabilities", "/v1/tasks", "/v1/audio?path=x")


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    root = tmp_path / "recordings"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a.wav").write_bytes(b"sound")
    (root / "notes.txt").write_bytes(b"words")
    (tmp_path / "outside.wav").write_bytes(b"secret")
    (root / "link.wav").symlink_to(tmp_path / "outside.wav")
    (root / "circle.wav").symlink_to(root / "circle.wav")
    return root


@pytest.fixture
def rooted(config: ServerConfig, roots: Path) -> Iterator[TestClient]:
    app = create_app(replace(config, audio_roots=(roots,)))
    with TestClient(app, base_url=ORIGIN) as client:
        yield client


def uploads(config: ServerConfig) -> list[Path]:
    folder = Places(config.worker.home).uploads
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


@pytest.mark.parametrize("path", POSTS + GETS)
def test_without_a_key_nobody_gets_in(locked: TestClient, path: str) -> None:
    def ask(**more: Any) -> Any:
        return locked.request("POST" if path in POSTS else "GET", path, **more)

    missing = error_of(ask(), 401) if path not in POSTS else error_of(ask(json={}), 401)
    assert missing == "Missing ai_token or Authorization header"
    for header in ("Bearer wrong", "wrong", "Bearer ones", "bearer on", "Bearer \xe9"):
        answer = ask(headers={"Authorization": header.encode("latin-1")})
        assert error_of(answer, 401) == "Invalid API key"
    assert ask(headers={"Authorization": "Bearer "}, **_body(path)).status_code == 401


def _body(path: str) -> dict[str, Any]:
    return {"json": {}} if path in POSTS else {}


@pytest.mark.parametrize("header", ["Bearer one", "bearer two", "two"])
def test_a_key_lets_in_with_and_without_bearer(locked: TestClient, header: str) -> None:
    headers = {"Authorization": header}
    data_of(locked.get("/v1/stats", headers=headers))
    data_of(locked.post("/release_task", json=SONG, headers=headers))


def test_ai_token_lets_in_and_a_wrong_one_does_not(locked: TestClient) -> None:
    data_of(locked.post("/release_task", json=SONG | {"ai_token": "two"}))
    data_of(locked.post("/query_result", data={"ai_token": "one", "task_id_list": "[]"}))
    wrong = {"ai_token": "three"}
    answer = locked.post("/release_task", json=wrong, headers={"Authorization": "one"})
    assert error_of(answer, 401) == "Invalid ai_token"
    error_of(locked.post("/release_task", json={"ai_token": ["one"]}), 401)


def test_health_needs_no_key(locked: TestClient) -> None:
    data_of(locked.get("/health"))


def test_a_file_is_not_written_before_a_key_was_seen(
    locked: TestClient, config: ServerConfig
) -> None:
    sound = ("a.wav", b"x" * 100)
    late: list[tuple[str, Any]] = [("src_audio", sound), ("ai_token", (None, "one"))]
    error_of(locked.post("/release_task", files=late), 401)
    assert uploads(config) == []
    early = [("task_type", (None, "cover")), *reversed(late)]
    data_of(locked.post("/release_task", files=early))
    assert len(uploads(config)) == 1


def test_a_signed_link_plays_without_a_key(
    locked: TestClient, config: ServerConfig, queue: Queue
) -> None:
    headers = {"Authorization": "one"}
    identity = data_of(locked.post("/release_task", json=SONG, headers=headers))["task_id"]
    folder = Places(config.worker.home).results / identity / "f"
    folder.mkdir(parents=True)
    (folder / "1.mp3").write_bytes(bytes(1000))
    Leases(queue).finish(claimed(queue), RESULT)
    ids = {"task_id_list": [identity]}
    (row,) = data_of(locked.post("/query_result", json=ids, headers=headers))
    link = json.loads(row["result"])[0]["file"]
    answer = locked.get(link, headers={"Range": "bytes=10-19"})
    assert (answer.status_code, len(answer.content)) == (206, 10)
    assert answer.headers["content-type"] == "audio/mpeg"
    assert locked.head(link).status_code == 200
    path = parse_qs(urlsplit(link).query)["path"][0]
    bare = f"/v1/audio?path={quote(path, safe='')}"
    assert locked.get(bare).status_code == 401
    assert locked.get(bare, headers=headers).status_code == 200
    for forged in (
        link[:-1] + ("0" if link[-1] != "0" else "1"),
        link.replace("expires=", "expires=9"),
        link.replace("1.mp3", "2.mp3"),
        bare + "&expires=99999999999&signature=",
        bare + "&expires=x&signature=%ff",
    ):
        assert locked.get(forged).status_code == 401


def test_a_link_ends_and_its_secret_stays(tmp_path: Path) -> None:
    links = Links(tmp_path / "links.secret", life_s=-7200)
    query = parse_qs(urlsplit(links.link("a", signed=True)).query)
    assert not links.holds("a", query["expires"][0], query["signature"][0])
    assert (tmp_path / "links.secret").stat().st_mode & 0o077 == 0
    fresh = parse_qs(urlsplit(Links(tmp_path / "links.secret", 60).link("a", signed=True)).query)
    again = Links(tmp_path / "links.secret", 60)
    assert again.holds("a", fresh["expires"][0], fresh["signature"][0])


@pytest.mark.parametrize("name", ["deep/a.wav", "{root}/deep/a.wav"])
def test_recordings_below_a_root_may_be_named(
    rooted: TestClient, roots: Path, queue: Queue, name: str
) -> None:
    body = {"task_type": "cover", "src_audio_path": name.format(root=roots)}
    identity = data_of(rooted.post("/release_task", json=body))["task_id"]
    assert queue.get(identity).request["music"]["source_audio"] == str(roots / "deep" / "a.wav")


@pytest.mark.parametrize("field", ["src_audio_path", "reference_audio_path", "ctx_audio_path"])
@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "{root}/../outside.wav",
        "../outside.wav",
        "deep/../../outside.wav",
        "{root}/link.wav",
        "circle.wav",
        "notes.txt",
        "deep",
        "nothing.wav",
        "a\0.wav",
        "http://127.0.0.1/a.wav",
        "file:///etc/passwd",
        "~/a.wav",
        "/proc/self/environ",
        "/v1/audio?path=/etc/passwd",
        "\\\\server\\share\\a.wav",
        "x" * 5000 + ".wav",
    ],
)
def test_nothing_else_may_be_named(rooted: TestClient, roots: Path, field: str, name: str) -> None:
    answer = rooted.post("/release_task", json={field: name.format(root=roots)})
    assert "secret" not in answer.text
    assert "audio" in error_of(answer, 400)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/etc/passwd", 403),
        ("../tasks.sqlite3", 403),
        ("x/../../links.secret", 403),
        ("..%2f..%2fetc%2fpasswd", 404),
        ("x/f/1.mp3.run.json", 403),
        ("x/f", 404),
        ("a\0", 403),
        ("nothing.mp3", 404),
        ("x/f/9.mp3", 404),
    ],
)
def test_only_results_are_downloaded(
    client: TestClient, config: ServerConfig, path: str, status: int
) -> None:
    folder = Places(config.worker.home).results / "x" / "f"
    folder.mkdir(parents=True)
    (folder / "1.mp3.run.json").write_text("{}")
    error_of(client.get("/v1/audio", params={"path": path}), status)


def test_a_link_among_the_results_leads_nowhere(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (tmp_path / "secret.wav").write_bytes(b"x")
    (results / "a.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(Refusal, match="only results"):
        result_file("a.wav", results)
    (results / "b.wav").write_bytes(b"x")
    assert result_file("b.wav", results) == result_file(str(results / "b.wav"), results)


@pytest.mark.parametrize("name", ["ref_audio", "reference_audio", "ctx_audio", "src_audio"])
def test_uploads_are_kept_under_names_of_ours(
    client: TestClient, config: ServerConfig, queue: Queue, name: str
) -> None:
    files = {name: ("../../../evil.WAV", b"sound"), "prompt": (None, "x")}
    identity = data_of(client.post("/release_task", files=files))["task_id"]
    (path,) = uploads(config)
    field = "reference_audio" if name.startswith("ref") else "source_audio"
    assert (path.name, path.read_bytes()) == (f"{field}.wav", b"sound")
    task = queue.get(identity)
    assert task.request["music"][field] == str(path)
    assert task.uploads == path.parent.name
    data_of(client.delete(f"/v1/tasks/{identity}"))
    assert uploads(config) == []


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ([("src_audio", ("a.wav", b"x" * 10_001))], 413),
        ([("src_audio", ("a.wav", b"x")), ("ctx_audio", ("b.wav", b"x"))], 400),
        ([("src_audio", ("a.exe", b"MZ"))], 400),
        ([("src_audio", ("a.wav.zip", b"PK"))], 400),
        ([("other", ("a.wav", b"x"))], 400),
        ([("bpm", (None, "9")), ("src_audio", ("a.wav", b"x"))], 400),
        ([(f"field{n}", (None, "x")) for n in range(201)], 413),
        ([("prompt", (None, "x" * 1_048_577))], 413),
    ],
)
def test_a_refused_upload_leaves_nothing(
    client: TestClient, config: ServerConfig, queue: Queue, files: Any, status: int
) -> None:
    error_of(client.post("/release_task", files=files), status)
    assert uploads(config) == []
    assert queue.counts().total == 0


def test_an_upload_that_breaks_off_or_lies_leaves_nothing(
    client: TestClient, config: ServerConfig
) -> None:
    start = b'--b\r\nContent-Disposition: form-data; name="src_audio"; filename="a.wav"\r\n\r\nxx'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    error_of(client.post("/release_task", content=start, headers=headers), 400)
    huge = headers | {"content-length": "9" * 30}
    error_of(client.post("/release_task", content=start, headers=huge), 413)
    long_header = b"--b\r\nX-" + b"y" * 100_000 + b": z\r\n\r\n\r\n--b--"
    error_of(client.post("/release_task", content=long_header, headers=headers), 400)
    assert uploads(config) == []


def test_a_refused_task_lets_go_of_its_upload(client: TestClient, config: ServerConfig) -> None:
    for _ in range(4):
        data_of(client.post("/release_task", json=SONG))
    files = {"ref_audio": ("a.wav", b"sound")}
    error_of(client.post("/release_task", files=files), 429)
    assert uploads(config) == []


def test_a_nearly_full_disk_refuses(config: ServerConfig, queue: Queue) -> None:
    with TestClient(create_app(replace(config, free_bytes=2**62)), base_url=ORIGIN) as client:
        files = {"ref_audio": ("a.wav", b"sound")}
        assert "nearly full" in error_of(client.post("/release_task", files=files), 507)
    assert uploads(config) == []
    assert queue.counts().total == 0


def test_a_form_without_a_chosen_file(client: TestClient, config: ServerConfig) -> None:
    data_of(client.post("/release_task", files={"ref_audio": ("", b""), "prompt": (None, "x")}))
    assert uploads(config) == []
