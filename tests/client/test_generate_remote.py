"""`luthier generate --server`: the same flags, files and exit codes, played elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctrl_c import heed_ctrl_c
from luthier.audio.decode import read_audio
from luthier.cli.main import main
from luthier.client import Client
from serving import KEY, Running

QUICK = ("--duration", "1", "--steps", "2", "--seed", "4")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_API_KEY", KEY)


def test_the_result_is_the_local_command_s(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here.wav", tmp_path / "there.wav"
    assert main(["generate", "calm", *QUICK, "--out", str(here), "--threads", "1", "--quiet"]) == 0
    words = ["generate", "calm", *QUICK, "--out", str(there), "--server", server.address]
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    (row,) = json.loads(said.out)["results"]
    assert (row["path"], row["seed"], row["duration_s"]) == (str(there), 4, 1)
    assert KEY not in said.out + said.err
    assert there.read_bytes() == here.read_bytes()
    record = json.loads(there.with_name("there.wav.run.json").read_text())
    assert record["config"]["server"] == server.address
    assert KEY not in json.dumps(record)


def test_a_batch_and_a_recording(
    server: Running, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_SERVER", server.address)
    words = ["generate", "--task", "repaint", "--source", str(recording), "--regions", "0.5:1"]
    out = tmp_path / "take.mp3"
    assert main([*words, "--steps", "2", "--batch", "2", "--out", str(out), "--quiet"]) == 0
    made = sorted(path.name for path in tmp_path.glob("take*.mp3"))
    assert made == ["take-1.mp3", "take-2.mp3"]
    audio, rate = read_audio(tmp_path / "take-2.mp3")
    assert audio.shape[1] / rate == pytest.approx(2, abs=0.1)
    record = json.loads((tmp_path / "take-1.mp3.run.json").read_text())
    assert record["inputs"][0]["path"] == str(recording)


def test_refusals_have_the_local_exit_codes(
    server: Running,
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(*words: str) -> tuple[int, str]:
        out = ["--out", str(tmp_path / "x.wav"), "--server", server.address]
        code = main(["generate", "calm", *out, *words])
        return code, capsys.readouterr().err

    code, said = refused("--task", "lego", "--source", str(recording), "--duration", "300")
    assert (code, "at most 120 seconds" in said) == (2, True)
    assert refused("--bpm", "7")[0] == 2
    assert refused("--threads", "2")[0] == 2
    code, said = refused("--model", "none")
    assert (code, "it has mini" in said) == (2, True)
    code, said = refused("--thinking")
    assert (code, "planner" in said) == (2, True)
    assert refused("--source", str(tmp_path / "none.wav"), "--task", "repaint")[0] == 1
    assert refused("--out", str(tmp_path / "x.xyz"))[0] == 2
    key_file = tmp_path / "key"
    key_file.write_text("wrong\n")
    code, said = refused("--api-key-file", str(key_file))
    assert (code, "Invalid API key" in said, "wrong" in said) == (1, True, False)
    assert not list(tmp_path.glob("x.*"))
    monkeypatch.setenv("LUTHIER_SERVER", "http://127.0.0.1:9")
    assert refused("--dry-run") == (0, "")


def test_ctrl_c_cancels_on_the_server(server: Running, client: Client, tmp_path: Path) -> None:
    before = {task.id for task in client.tasks()}
    words = ["generate", "long", "--duration", "10", "--steps", "200", "--server", server.address]
    process = subprocess.Popen(
        [sys.executable, "-m", "luthier", *words, "--out", str(tmp_path / "x.wav")],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LUTHIER_API_KEY": KEY},
        preexec_fn=heed_ctrl_c,
    )
    deadline = time.monotonic() + 60
    mine = None
    while time.monotonic() < deadline and (mine is None or mine.state == "queued"):
        time.sleep(0.1)
        mine = next((t for t in client.tasks() if t.id not in before), None)
    assert mine is not None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in said
    assert client.wait(mine.id, timeout_s=60).state == "cancelled"
    assert list(tmp_path.iterdir()) == []
