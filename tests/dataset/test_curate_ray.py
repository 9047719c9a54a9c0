"""Curation on a Ray of this machine: the same results, and a killed process costs nothing.

In a process of its own, because Ray reaches for the network to learn its address.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.dataset.curate import CurateSettings, curate
from luthier.dataset.ray_cluster import run_ray
from luthier.errors import MissingExtraError
from luthier.files import read_json, sha256_of

TESTS = Path(__file__).parents[1]
_CODE = """
import sys
from pathlib import Path
from deadly import DeadlyOncePath, DeadlyPath
from luthier.dataset.curate import CurateSettings, curate, plan
from luthier.dataset.ray_cluster import run_ray
source, out = Path(sys.argv[1]), Path(sys.argv[2])
settings = CurateSettings(min_duration=0)
curate(source, out, settings, workers=2, engine="ray")
jobs = plan(source, out.parent / "killed", settings)
kinds = {0: DeadlyOncePath, 1: DeadlyPath}
jobs = [type(j)(kinds.get(i, Path)(j.source), j.output, settings) for i, j in enumerate(jobs)]
rows = {}
run_ray(jobs, 2, None, lambda job, row: rows.__setitem__(job.source.name, row))
for name, row in sorted(rows.items()):
    print("ROW", name, row.status, row.reason)
"""


@pytest.mark.slow
def test_ray_gives_the_same_and_survives_killed_workers(tmp_path):
    pytest.importorskip("ray")
    source = tmp_path / "in"
    time_s = np.arange(3 * 24000) / 24000
    for i in range(4):
        tone = 0.4 * np.sin(2 * np.pi * (110 + 20 * i) * time_s) * (1 + np.sin(12 * time_s)) / 2
        write_audio(source / f"{i}.wav", np.tile(tone, (2, 1)).astype(np.float32), 24000)
    (source / "bad.mp3").write_text("no music\n" * 40)
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(source), str(tmp_path / "ray")],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env=os.environ
        | {"PYTHONPATH": str(TESTS), "RAY_USAGE_STATS_ENABLED": "0"}
        | {"RAY_raylet_start_wait_time_s": "400"},  # a busy machine takes its time
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("ROW")]
    assert rows[0] == "ROW 0.wav success None"
    assert rows[1].startswith("ROW 1.wav failed worker_killed: ")
    assert rows[2:4] == ["ROW 2.wav success None", "ROW 3.wav success None"]
    assert "bad.mp3 failed unreadable" in rows[4]

    local, ray = tmp_path / "local", tmp_path / "ray"
    curate(source, local, CurateSettings(min_duration=0), workers=2)
    assert {p.name for p in local.iterdir()} == {p.name for p in ray.iterdir()}
    for path in local.glob("*.mp3"):
        assert sha256_of(path) == sha256_of(ray / path.name)
    reports = [read_json(folder / "curation.json") for folder in (local, ray)]
    for report in reports:
        for row in report["results"]:
            row["output_path"] = row["output_path"] and Path(row["output_path"]).name
    assert reports[0] == reports[1]


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("luthier.dataset.ray_cluster.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"luthier\[cluster\]"):
        run_ray([], 2, None, lambda job, row: None)
