"""The lines of curl of the contract, word by word, against a running server with mini; and the same
requests as files in examples/api. Only the address and the places of the recordings are put in.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_server_live import example, finished, recording, server

from luthier.audio.decode import read_audio
from luthier.music.mini import onnx_folder
from luthier.music.spec import load_spec

__all__ = ["recording", "server"]  # fixtures
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")

TEXT2MUSIC = """curl -X POST http://localhost:8001/release_task -H "Content-Type: application/json" -d '{"prompt":"tight electro groove, punchy kick, clean bass","bpm":120,"key_scale":"A minor","time_signature":"4","audio_duration":20,"thinking":false,"inference_steps":8,"batch_size":1}'"""  # noqa: E501
POLL = """curl -X POST http://localhost:8001/query_result -H "Content-Type: application/json" -d '{"task_id_list":["<TASK_ID>"]}'"""  # noqa: E501
DOWNLOAD = """curl -L "http://localhost:8001/v1/audio?path=<URLENCODED_PATH>" -o out.mp3"""
REPAINT = """curl -X POST http://localhost:8001/release_task -F "task_type=repaint" -F "prompt=regenerate this region with tighter drums and less busy hats" -F "repainting_start=8.0" -F "repainting_end=16.0" -F "src_audio=@/data/in.wav\""""  # noqa: E501
COVER = """curl -X POST http://localhost:8001/release_task -F "task_type=cover" -F "prompt=keep structure but make it more lo-fi and warm" -F "audio_cover_strength=0.3" -F "src_audio=@/data/in.wav" -F "reference_audio=@/data/style.wav\""""  # noqa: E501
LEGO = """curl -X POST http://localhost:8001/release_task -F "task_type=lego" -F "instruction=Generate the bass track based on the audio context:" -F "prompt=warm round bass, minimal fills" -F "src_audio=@/data/in.wav\""""  # noqa: E501
TASKS = load_spec(onnx_folder()).tasks


class Line:
    """Runs one line with this server and these recordings."""

    def __init__(self, server: str, recording: Path, folder: Path) -> None:
        self._places = {
            "http://localhost:8001": server,
            "/data/in.wav": str(recording),
            "/data/style.wav": str(recording),
        }
        self._folder = folder

    def __call__(self, line: str, **more: str) -> bytes:
        for place, real in (self._places | more).items():
            line = line.replace(place, real)
        words = shlex.split(line)
        return subprocess.run(words, capture_output=True, check=True, cwd=self._folder).stdout

    def data(self, line: str, **more: str) -> Any:
        return json.loads(self(line, **more))["data"]


@pytest.fixture
def line(server: str, recording: Path, tmp_path: Path) -> Line:
    return Line(server, recording, tmp_path)


def test_text_to_music_poll_and_download(line: Line, server: str, tmp_path: Path) -> None:
    accepted = line.data(TEXT2MUSIC)
    assert accepted["status"] == "queued"
    identity = accepted["task_id"]
    (item,) = finished(server, identity)
    (row,) = line.data(POLL, **{"<TASK_ID>": identity})
    assert (row["task_id"], row["status"]) == (identity, 1)
    (polled,) = json.loads(row["result"])
    assert polled == item
    path = item["file"].removeprefix("/v1/audio?path=")
    line(DOWNLOAD, **{"<URLENCODED_PATH>": path})
    audio, rate = read_audio(tmp_path / "out.mp3")
    assert audio.shape[1] / rate == pytest.approx(20, abs=0.1)
    assert (item["metas"]["bpm"], item["metas"]["keyscale"]) == (120, "A minor")
    assert item["metas"]["timesignature"] == "4"


EDITS = {"repaint": REPAINT, "cover": COVER, "lego": LEGO}


@pytest.mark.parametrize("task", EDITS)
def test_an_edit_is_accepted_or_refused_in_a_sentence(
    line: Line, server: str, recording: Path, task: str
) -> None:
    files = [recording, recording] if task == "cover" else [recording]
    for answer in (json.loads(line(EDITS[task])), example(f"{task}.sh", *files, server)):
        if task in TASKS:
            assert answer["data"]["status"] == "queued"
            line(
                f"curl -sS -X POST http://localhost:8001/v1/tasks/{answer['data']['task_id']}/cancel"
            )
        else:
            assert answer["code"] == 400
            assert f"mini was not trained for the task {task}" in answer["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task in EDITS if task in TASKS])
def test_an_edit_becomes_music(line: Line, server: str, tmp_path: Path, task: str) -> None:
    items = finished(server, line.data(EDITS[task])["task_id"], 500)
    assert len(items) == 2
    for item in items:
        line(f"curl -sSL {server}{item['file']} -o out.mp3")
        audio, rate = read_audio(tmp_path / "out.mp3")
        assert audio.shape[1] / rate == pytest.approx(20, abs=0.1)


def test_the_probes(line: Line) -> None:
    assert line.data("curl http://localhost:8001/health")["status"] == "ok"
    assert line.data("curl http://localhost:8001/v1/models")["models"][0]["name"] == "mini"
