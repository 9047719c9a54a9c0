"""The client against a real server with mini."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from broken_line import BrokenLine
from luthier.audio.decode import read_audio
from luthier.client import Client, RemoteTask, ServerError
from luthier.errors import PathError, RequestError
from luthier.music.request import MusicRequest
from luthier.music.task_options import TaskOptions
from serving import KEY, Running

SHORT = MusicRequest(prompt="calm piano", duration_s=1, steps=2, seed=4)
LONG = MusicRequest(prompt="long", duration_s=10, steps=200, seed=4)
WAV = TaskOptions(audio_format="wav")


def test_what_the_server_says_of_itself(client: Client) -> None:
    assert client.health()["status"] == "ok"
    assert client.capabilities()["default_model"] == "mini"
    (model,) = client.models()
    assert (model.name, model.is_default) == ("mini", True)
    assert "repaint" in model.tasks


def test_generate_and_download(client: Client, tmp_path: Path) -> None:
    seen: list[RemoteTask] = []
    task = client.generate(SHORT, WAV, seen.append)
    (piece,) = task.pieces  # one, although ACE-Step's clients get two
    assert (piece.seed, piece.model) == (4, "mini")
    assert piece.request["duration_s"] == 1
    assert [t.progress for t in seen] == sorted(t.progress for t in seen)
    assert seen[-1] == task
    path = client.download(piece, tmp_path / "new" / "x.wav")
    audio, rate = read_audio(path)
    assert audio.shape[1] / rate == pytest.approx(1, abs=0.01)
    again = client.generate(SHORT, WAV)
    assert client.download(again.pieces[0], tmp_path / "y.wav").read_bytes() == path.read_bytes()


def test_a_recording_is_uploaded_and_a_result_taken_where_it_lies(
    client: Client, recording: Path, tmp_path: Path
) -> None:
    repaint = MusicRequest(
        task="repaint", source_audio=recording, repaint_regions=((0.5, 1.0), (1.2, 1.5)),
        steps=2, seeds=(3, 9), batch_size=2,
    )  # fmt: skip
    task = client.generate(repaint, WAV)
    assert [piece.seed for piece in task.pieces] == [3, 9]
    assert task.pieces[0].request["repaint_regions"] == [[0.5, 1.0], [1.2, 1.5]]
    assert task.pieces[0].duration_s == pytest.approx(2)
    taken = repaint.model_copy(update={"source_audio": Path(task.pieces[0].file)})
    assert client.generate(taken, WAV).pieces[0].duration_s == pytest.approx(2)
    missing = repaint.model_copy(update={"source_audio": tmp_path / "none.wav"})
    with pytest.raises(PathError, match="does not exist"):
        client.submit(missing)


def test_cancel_retry_list_delete(client: Client) -> None:
    first, second = client.submit(LONG), client.submit(LONG)
    assert client.cancel(second.id).state in ("cancelled", "running")
    client.cancel(first.id)
    assert client.wait(first.id).state == client.wait(second.id).state == "cancelled"
    listed = [task.id for task in client.tasks("cancelled")]
    assert listed.index(second.id) < listed.index(first.id)
    assert client.retry(second.id).state in ("queued", "running")
    client.cancel(second.id)
    assert client.wait(second.id).state == "cancelled"
    client.delete(second.id)
    with pytest.raises(ServerError, match="no such task") as refused:
        client.task(second.id)
    assert refused.value.status == 404
    with pytest.raises(ServerError, match="cancelled"):
        client.generate(LONG, on_change=lambda task: client.cancel(task.id) and None)


def test_the_server_s_sentence_and_status_are_told(
    client: Client, server: Running, recording: Path
) -> None:
    with pytest.raises(ServerError, match=r"at most 120 seconds") as refused:
        client.submit(MusicRequest(task="lego", source_audio=recording, duration_s=300))
    assert (refused.value.status, refused.value.exit_code) == (400, 2)
    with Client(server.address, "wrong") as stranger:
        with pytest.raises(ServerError, match="Invalid API key") as refused:
            stranger.submit(SHORT)
        assert (refused.value.status, refused.value.exit_code) == (401, 1)
    with Client(server.address) as nobody, pytest.raises(ServerError, match="Missing"):
        nobody.models()


def test_an_idempotency_key_gives_the_same_task(client: Client) -> None:
    first = client.submit(SHORT, WAV, idempotency_key="one and the same")
    assert client.submit(SHORT, WAV, idempotency_key="one and the same").id == first.id
    with pytest.raises(ServerError, match="another request"):
        client.submit(LONG, WAV, idempotency_key="one and the same")
    client.wait(first.id)


def test_waiting_has_a_limit(client: Client) -> None:
    accepted = client.submit(LONG)
    with pytest.raises(ServerError, match=r"is still \w+ after 0.3 s"):
        client.wait(accepted.id, timeout_s=0.3)
    client.cancel(accepted.id)
    client.wait(accepted.id)


def test_a_broken_line_loses_nothing(server: Running, recording: Path, tmp_path: Path) -> None:
    # The answer to the upload never comes, then comes in part; then the events are cut, twice.
    line = BrokenLine(server.address, [0, 200, 1500, 600])
    request = MusicRequest(task="repaint", source_audio=recording, steps=3, seed=1)
    with Client(server.address, KEY) as sure, Client(line.address, KEY) as client:
        before = {task.id for task in sure.tasks()}
        task = client.generate(request, WAV)
        assert {t.id for t in sure.tasks()} - before == {task.id}  # sent thrice, made once
    assert line.connections > 4
    line.close()
    line = BrokenLine(server.address, [100, 9000])
    with Client(line.address, KEY) as client:
        path = client.download(task.pieces[0], tmp_path / "x.wav")
    assert read_audio(path)[0].shape[1] > 40_000
    assert line.connections == 3
    line.close()


class _Moody(BaseHTTPRequestHandler):
    """Refuses with what is written, then is alive."""

    moods: list[tuple[int, dict[str, str]]]

    def do_GET(self) -> None:
        status, headers = self.moods.pop(0) if self.moods else (200, {})
        body = b'{"data": {"status": "ok"}}'
        if status != 200:
            body = b'{"error": "Server busy.\\u001b[2J\\r"}'
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def moody(*moods: tuple[int, dict[str, str]]) -> Iterator[str]:
    kind = type("Moods", (_Moody,), {"moods": list(moods)})
    with HTTPServer(("127.0.0.1", 0), kind) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    said: list[str] = []
    moods = [(429, {"Retry-After": "1"}), (503, {}), (502, {})]
    with moody(*moods) as address, Client(address, said=said.append) as client:
        assert client.health() == {"status": "ok"}
    assert len(said) == 3
    waited = float(said[0].rpartition(" in ")[2].split()[0])
    assert 1 <= waited <= 1.3
    with (
        moody((429, {"Retry-After": "3600"})) as address,
        Client(address) as client,
        pytest.raises(ServerError, match="Server busy") as refused,
    ):
        client.health()
    assert refused.value.status == 429


def test_a_server_that_is_not_there_and_one_that_is_another(tmp_path: Path) -> None:
    with (
        Client("http://127.0.0.1:9", patience_s=0.3) as client,
        pytest.raises(ServerError, match="was not reached") as lost,
    ):
        client.health()
    assert lost.value.status is None
    with moody((302, {"Location": "http://127.0.0.1:9/"})) as address, Client(address) as client:
        with pytest.raises(ServerError):
            client.health()
        with pytest.raises(ServerError, match="no result of its own"):
            client.download("http://127.0.0.1:9/x.wav", tmp_path / "x.wav")
        with pytest.raises(ServerError, match="where audio should be"):
            client.download("/v1/audio?path=x", tmp_path / "x.wav")
    assert list(tmp_path.iterdir()) == []


def test_what_a_server_says_does_not_control_a_terminal() -> None:
    with (
        moody((418, {})) as address,
        Client(address) as client,
        pytest.raises(ServerError, match="busy") as refused,
    ):
        client.health()
    assert str(refused.value).isprintable()


def test_the_key_is_not_shown() -> None:
    client = Client("127.0.0.1:9", "secret-key-here", patience_s=0)
    with pytest.raises(ServerError) as lost:
        client.health()
    assert "secret" not in repr(vars(client)) + str(lost.value) + repr(lost.value.__cause__)
    client.close()


@pytest.mark.parametrize("text", ["", "ftp://x", "http://", "http://x:999999", "http://x?y=1"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(RequestError, match="no address of a server"):
        Client(text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(RequestError, match="name or a password") as refused:
        Client("http://me:hunter2@x:8001")
    assert "hunter2" not in str(refused.value)
