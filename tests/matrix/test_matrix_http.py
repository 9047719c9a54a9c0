"""The matrix over HTTP: against our own server with mini, and one of upstream's oldest kind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.cli.main import main
from luthier.errors import LuthierError
from luthier.matrix.over_http import HttpPlayer

SHORT = ["--bpm", "120", "--key", "Am", "--duration", "2", "--region", "1", "--steps", "2"]


def matrix(out: Path, server: str, *more: str) -> int:
    return main(["matrix", *SHORT, "--server", server, "--out", str(out), "--quiet", *more])


def told(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "matrix.json").read_text())
    return found


@contextmanager
def serving(home: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--threads", "1"]
    with (home.parent / "log").open("w") as errors:
        process = subprocess.Popen(
            [*command, "--home", str(home)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_our_own_server_with_mini(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, entry = tmp_path / "m", tmp_path / "devices.md"
    with serving(tmp_path / "home") as server:
        more = ("--task", "text2music,repaint", "--device", "T4", "--device-entry", str(entry))
        assert matrix(out, server, *more) == 0
        result = told(out)
        assert [cell["state"] for cell in result["cells"]] == ["ok", "ok"]
        source, repaint = result["cells"]
        assert source["model"] == "mini"
        assert source["runtime"]["timed_by"] == "server"
        assert source["memory"]["peak_bytes"] is None
        assert repaint["pieces"][0]["outside"]["exact"] is True
        assert [piece["seed"] for cell in result["cells"] for piece in cell["pieces"]] == [1, 2]
        assert matrix(tmp_path / "n", server, "--model", "turbo") == 2
    assert "## T4" in entry.read_text()
    assert "the server has no model 'turbo': it has mini" in capsys.readouterr().err


class Upstream(BaseHTTPRequestHandler):
    """ACE-Step's first server: three routes, everything else 404; a task fails without a reason."""

    asked: ClassVar[list[tuple[str, bytes]]] = []
    audio: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/v1/audio":
            self.reply(200, self.audio, "audio/mpeg")
        elif self.path == "/health":
            self.envelope({"status": "ok", "service": "ACE-Step API", "version": "1.0"})
        else:
            self.reply(404, b'{"detail": "Not Found"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.path, body))
        if self.path == "/release_task":
            failing = b'"bpm":90' in body.replace(b" ", b"")
            if b"extract" in body:
                self.reply(400, b'{"detail": "unknown task"}')
            else:
                self.envelope({"task_id": "bad" if failing else "good", "status": "queued"})
        elif b"bad" in body:
            item = {"file": "", "status": 2, "progress": 0.0, "stage": "failed"}
            self.envelope([{"task_id": "bad", "result": json.dumps([item]), "status": 2}])
        else:
            item = {"file": "/v1/audio?path=%2Ftmp%2Fx.mp3", "status": 1, "seed_value": "7"}
            self.envelope([{"task_id": "good", "result": json.dumps([item]), "status": 1}])

    def envelope(self, data: Any) -> None:
        self.reply(200, json.dumps({"data": data, "code": 200, "error": None}).encode())

    def reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[str]:
    write_audio(tmp_path / "x.flac", play(120, "A minor", 2.0), RATE)
    Upstream.asked, Upstream.audio = [], (tmp_path / "x.flac").read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_that_knows_three_routes_is_enough(tmp_path: Path, upstream: str) -> None:
    tasks = ("--task", "text2music,lego:bass,extract:bass")
    assert matrix(tmp_path / "m", upstream, *tasks, "--bpm", "90,120") == 1
    cells = {(cell["task"], cell["bpm"]): cell for cell in told(tmp_path / "m")["cells"]}
    good = cells["text2music", 120]
    assert (good["state"], good["model"], good["runtime"]["timed_by"]) == (
        *("ok", "default"),
        "client",
    )
    assert good["pieces"][0]["tempo"]["octave"] == "same"
    assert good["pieces"][0]["seed"] == 7
    assert cells["text2music", 90]["error"] == "the server failed, and did not say why."
    assert "its source" in cells["lego:bass", 90]["error"]
    assert cells["lego:bass", 120]["pieces"][0]["layer"]["likeness"] > 0.99
    assert cells["extract:bass", 120]["error"] == "unknown task."


def test_fields_go_out_under_upstream_s_names(tmp_path: Path, upstream: str) -> None:
    assert matrix(tmp_path / "m", upstream, "--task", "text2music,lego:bass") == 0
    sent = [body for path, body in Upstream.asked if path == "/release_task"]
    assert json.loads(sent[0]) == {
        "prompt": "tight electro groove, punchy kick, clean bass",
        "bpm": 120,
        "key_scale": "A minor",
        "time_signature": "4",
        "audio_duration": 2.0,
        "seed": 1,
        "batch_size": 1,
        "task_type": "text2music",
        "inference_steps": 2,
        "lyrics": "[Instrumental]",
        "thinking": False,
        "use_random_seed": False,
        "audio_format": "flac",
    }
    assert b'name="src_audio"; filename="' in sent[1]
    assert b"Generate the BASS track based on the audio context:" in sent[1]
    assert b'"track_name": "bass"' in sent[1]


def test_a_server_that_is_not_there_ends_the_run() -> None:
    with pytest.raises(LuthierError, match="was not reached"):
        HttpPlayer("http://127.0.0.1:9", patience_s=0.1)


def test_a_model_that_the_server_cannot_name_is_asked_for(tmp_path: Path, upstream: str) -> None:
    assert matrix(tmp_path / "m", upstream, "--model", "turbo", "--task", "text2music") == 0
    assert told(tmp_path / "m")["cells"][0]["model"] == "turbo"
    assert json.loads(Upstream.asked[0][1])["model"] == "turbo"
