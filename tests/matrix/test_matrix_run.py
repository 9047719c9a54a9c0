"""`luthier matrix` on a tiny model: real processes, real files, and going on after anything."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ctrl_c import heed_ctrl_c
from luthier.audio.decode import read_audio
from luthier.cli.main import main
from luthier.matrix.in_process import how_it_ended
from luthier.provenance import trace
from tiny import tiny_onnx

SHORT = ["--bpm", "120", "--key", "Am", "--duration", "2", "--region", "1", "--steps", "2"]


def words(out: Path, *more: str) -> list[str]:
    model = ["--model", f"tiny={tiny_onnx('int8')}", "--threads", "1"]
    return ["matrix", *SHORT, *model, "--out", str(out), *more]


def matrix(out: Path, *more: str) -> int:
    return main(words(out, "--quiet", *more))


def told(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "matrix.json").read_text())
    return found


def touched(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matrix of three cells, with an entry for the device."""
    out = tmp_path_factory.mktemp("matrix") / "m"
    entry = ("--device", "This one", "--device-entry", str(out.parent / "devices.md"))
    assert matrix(out, "--task", "repaint,lego:bass", *entry) == 0
    return out


def test_a_cell_holds_all_that_was_measured(played: Path) -> None:
    result = told(played)
    source, repaint, lego = result["cells"]
    assert [cell["task"] for cell in result["cells"]] == ["text2music", "repaint", "lego:bass"]
    assert repaint["source"] == lego["source"] == source["name"]
    for cell in result["cells"]:
        assert cell["runtime"]["wall_s"] > 0
        assert cell["runtime"]["load_s"] > 0
        assert cell["runtime"]["audio_s"] == 2
        # Less than a pytest with torch: it is the child's own memory.
        assert 30e6 < cell["memory"]["peak_bytes"] < 400e6
        (piece,) = cell["pieces"]
        audio, rate = read_audio(played / piece["file"])
        assert audio.shape[1] / rate == piece["levels"]["duration_s"] == 2
        assert {"tempo", "key", "grid", "levels"} <= set(piece)
    assert repaint["pieces"][0]["outside"]["exact"] is True
    assert len(repaint["pieces"][0]["edit"]["seams"]) == 2
    assert lego["pieces"][0]["layer"]["level_db"] is not None


def test_it_says_where_and_with_what_it_was_measured(played: Path) -> None:
    result = told(played)
    assert result["environment"]["machine"]["name"] == "This one"
    assert result["environment"]["machine"]["cores"] >= 1
    assert result["environment"]["provider"] == "CPUExecutionProvider"
    assert result["versions"]["onnxruntime"]
    assert result["grid"]["region_s"] == 1
    assert str(played.parent) not in (played / "matrix.json").read_text().replace(
        json.dumps(str(played)), ""
    )


def test_the_tables_have_a_line_for_each_piece(played: Path) -> None:
    lines = (played / "matrix.csv").read_text().splitlines()
    assert len(lines) == 4
    assert {"seam_click", "layer_likeness", "tempo_octave"} <= set(lines[0].split(","))
    assert (played / "matrix.md").read_text().count("\n") == 5


def test_the_page_plays_what_lies_beside_it(played: Path) -> None:
    sources = re.findall(r'<audio[^>]* src="([^"]+)"', (played / "index.html").read_text())
    assert len(sources) == 3
    assert all((played / source).is_file() for source in sources)


def test_the_device_has_its_section(played: Path) -> None:
    assert "## This one" in (played.parent / "devices.md").read_text()


def test_a_clip_can_be_traced_to_its_model(played: Path) -> None:
    clip = played / told(played)["cells"][1]["pieces"][0]["file"]
    steps = trace(clip)
    assert steps[0].record["stage"] == "matrix"
    assert any(step.path == tiny_onnx("int8").resolve() for step in steps)


def test_again_it_plays_nothing_and_a_lost_clip_is_played_alone(played: Path) -> None:
    again = ("--task", "repaint,lego:bass", "--device", "This one")
    before, result = touched(played), told(played)
    assert matrix(played, *again) == 0
    assert touched(played) == before
    lego = result["cells"][2]
    (played / lego["pieces"][0]["file"]).write_bytes(b"")
    (played / "cells" / f"{result['cells'][1]['name']}.json").write_text('{"torn')
    assert matrix(played, *again) == 0
    after = touched(played)
    assert [name for name in before if before[name] == after[name]] == [
        f"{result['cells'][0]['name']}.json"
    ]
    assert told(played)["cells"][2]["pieces"][0]["sha256"] == lego["pieces"][0]["sha256"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--prompt", "other"), "whose prompt was tight electro groove"),
        (("--seed", "2"), "whose seed was 1, not 2"),
        (("--task", "cover"), "whose task was repaint,lego:bass, not cover"),
        (("--device", "Another"), "whose machine was"),
    ],
)
def test_other_options_need_another_folder(
    played: Path, change: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = touched(played)
    base = ("--task", "repaint,lego:bass", "--device", "This one")
    assert matrix(played, *base, *change) == 2
    assert message in capsys.readouterr().err
    assert touched(played) == before


def test_a_foreign_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.html").write_text("mine")
    assert matrix(tmp_path) == 2
    assert "holds other things than a matrix" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_limit_zero_writes_an_empty_matrix_and_dry_run_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path / "dry", "--dry-run")) == 0
    assert "would play 5 cells" in capsys.readouterr().out
    assert not (tmp_path / "dry").exists()
    assert matrix(tmp_path / "none", "--limit", "0") == 0
    assert told(tmp_path / "none")["counts"] == {"cells": 5, "recorded": 0}
    assert "5 are still to be played" in (tmp_path / "none" / "index.html").read_text()


def test_a_cell_that_is_not_ready_in_time_is_a_failure_that_can_be_tried_again(
    tmp_path: Path,
) -> None:
    out = tmp_path / "m"
    assert matrix(out, "--task", "repaint", "--timeout", "0.01") == 1
    first, second = told(out)["cells"]
    assert "not ready after 0.01 s" in first["error"]
    assert second["error"] == f"its source {first['name']} failed."
    assert told(out)["recommended"]["tiny"]["tasks"]["repaint"]["verdict"] == "unstable"
    assert matrix(out, "--task", "repaint") == 1  # what failed stays
    assert matrix(out, "--task", "repaint", "--again") == 0
    assert [cell["state"] for cell in told(out)["cells"]] == ["ok", "ok"]


def test_a_task_that_mini_does_not_do_is_one_row(tmp_path: Path) -> None:
    from luthier.music.mini import onnx_folder
    from luthier.music.spec import load_spec

    missing = {"lego", "extract", "complete"} - set(load_spec(onnx_folder()).tasks)
    if not missing:
        pytest.skip("mini does everything")
    task = min(missing)
    line = ["matrix", *SHORT, "--task", task, "--out", str(tmp_path / "m"), "--quiet"]
    assert main(line) == 0
    states = [cell["state"] for cell in told(tmp_path / "m")["cells"]]
    assert states == ["ok", "not supported"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--bpm", "fast"), "--bpm takes numbers by commas"),
        (("--bpm", ","), "the axis bpm is empty"),
        (("--workers", "0"), "--workers is 0"),
        (("--timeout", "0"), "--timeout is 0"),
        (("--provider", "tpu"), "provider is 'tpu'"),
        (("--region", "2"), "does not fit"),
        (("--server", "http://127.0.0.1:9", "--device-entry", "x.md"), "name it with --device"),
    ],
)
def test_bad_requests_exit_2_and_write_nothing(
    tmp_path: Path, change: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert matrix(tmp_path / "m", *change) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_how_a_process_ended_is_said() -> None:
    assert "SIGKILL: most likely there was not enough memory" in how_it_ended(-9, "")
    assert how_it_ended(1, "Traceback\nValueError: x").endswith("status 1: ValueError: x.")


def test_killed_at_any_moment_it_goes_on_and_leaves_no_process(tmp_path: Path) -> None:
    out = tmp_path / "m"
    more = ("--task", "text2music", "--key", "C,Am,F", "--quiet")
    command = [sys.executable, "-m", "luthier", *words(out, *more)]
    for cells in (1, 2):
        process = subprocess.Popen(command, start_new_session=True)
        threading.Timer(120, process.kill).start()
        while process.poll() is None and len(list((out / "cells").glob("*.json"))) < cells:
            time.sleep(0.05)
        time.sleep(0.3)  # into the next cell
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = touched(out)
    assert not list((out / "cells").glob(".*"))
    assert matrix(out, *more) == 0
    assert [cell["state"] for cell in told(out)["cells"]] == ["ok"] * 3
    assert {name: time for name, time in touched(out).items() if name in kept} == kept
    assert not children_playing(out)


def test_ctrl_c_records_no_failure_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "m"
    more = ("--task", "text2music", "--key", "C,Am,F", "--workers", "2")
    command = [sys.executable, "-m", "luthier", *words(out, *more)]
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    while process.poll() is None and not list((out / "cells").glob("*.json")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in said
    rows = [json.loads(path.read_text()) for path in (out / "cells").glob("*.json")]
    assert {row["state"] for row in rows} == {"ok"}
    assert len(rows) < 3


def children_playing(out: Path) -> list[str]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = subprocess.run(
            ["ps", "-eo", "ppid,args"], capture_output=True, text=True, check=True
        )
        orphans = [
            line
            for line in found.stdout.splitlines()
            if "luthier.matrix.child" in line and line.split()[0] == "1"
        ]
        if not orphans:
            return []
        time.sleep(0.2)
    return orphans
