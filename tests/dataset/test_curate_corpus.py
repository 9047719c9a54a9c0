"""Whatever lies in a folder of recordings: a row with a reason, never a crash, a hang or a rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bad_files import SECONDS, write_corpus
from luthier.audio.decode import read_audio
from luthier.files import sha256_of

REASONS = {
    "unreadable",
    "silent",
    "excessive_clipping",
    "excessive_silence",
    "too_short",
    "not encoded",
    "out_of_memory",
}


def luthier_curate(source, out, *flags, timeout_s):
    return subprocess.run(
        [
            *(sys.executable, "-m", "luthier", "curate", str(source), "--out", str(out)),
            *("--json", *flags),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def check(source, out, count, *flags):
    done = luthier_curate(source, out, "--min-duration", "0", *flags, timeout_s=500)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    rows = {Path(row["source"]).name: row for row in found["results"]}
    assert len(rows) == count
    for name, row in rows.items():
        if row["status"] == "success":
            samples, _ = read_audio(Path(row["output_path"]))
            assert samples.shape[1] > 0, name
            assert sha256_of(Path(row["output_path"])) == row["output_sha256"]
        else:
            assert row["reason"].split(": ")[0] in REASONS, (name, row["reason"])
            assert len(row["reason"]) > 20, (name, row["reason"])
    outputs = {Path(row["output_path"]).name for row in rows.values() if row["output_path"]}
    assert {p.name for p in out.iterdir()} == outputs | {
        "curation.json",
        "curation.jsonl",
        "run.json",
    }
    return rows


def test_three_hundred_bad_and_odd_files(tmp_path):
    count = write_corpus(tmp_path / "in")
    assert count >= 300
    flags = ("--sample-rate", "16000", "--target-format", "wav", "--workers", "2")
    rows = check(tmp_path / "in", tmp_path / "out", count, *flags)
    status = {name: row["status"] for name, row in rows.items()}
    good = [f"good.{suffix}" for suffix in ("wav", "flac", "mp3", "ogg", "m4a", "aiff")]
    odd = ["8bit8k.wav", "24bit.wav", "32bit.wav", "double.wav", "192k.wav", "ch6.wav", "ch8.flac"]
    tags = ["id3_bare.mp3", "id3_cover.mp3", "id3_nuls.mp3", "id3_bomb.mp3", "really_mp3.ogg"]
    assert {name for name in good + odd + tags if status[name] != "success"} == set()
    assert rows["good.wav"]["duration"] == pytest.approx(SECONDS, abs=0.01)
    broken = ["nan.wav", "inf.wav", "zero.wav", "loud.wav", "page.mp3", "list.m4a", "concat.wav"]
    broken += [f"{kind}.{suffix}" for kind in ("empty", "zeros") for suffix in ("wav", "m4a")]
    assert {name for name in broken if status[name] != "failed"} == set()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_more_damage_and_a_lossy_target(tmp_path, seed):
    count = write_corpus(tmp_path / "in", seed=seed)
    flags = ("--target-format", ("mp3", "ogg", "flac")[seed % 3], "--workers", "2")
    check(tmp_path / "in", tmp_path / "out", count, *flags)


def test_nothing_is_left_open(tmp_path):
    from luthier.dataset.curate import CurateSettings, curate

    write_corpus(tmp_path / "all")
    chosen = sorted((tmp_path / "all").iterdir())[::12]
    (tmp_path / "in").mkdir()
    for path in chosen:
        path.rename(tmp_path / "in" / path.name)
    settings = CurateSettings(min_duration=0, sample_rate=16000, target_format="wav")
    curate(tmp_path / "in", tmp_path / "warm", settings, workers=1)
    before = len(os.listdir("/proc/self/fd"))
    curate(tmp_path / "in", tmp_path / "out", settings, workers=1)
    assert len(os.listdir("/proc/self/fd")) == before
