from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from band import RATE, play
from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.audio.measure import decibels, peak
from luthier.dataset.curate import CurateSettings, curate, plan
from luthier.dataset.metadata_lock import metadata_lock
from luthier.errors import DatasetError, PathError, RequestError
from luthier.progress import Display

SHORT = CurateSettings(min_duration=3, max_duration=8)


def by_name(report):
    return {Path(result.source).name: result for result in report.results}


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "in"
    music = play(84, "A minor", 6.0)
    write_audio(folder / "good.wav", music, RATE)
    write_audio(folder / "mono.flac", play(96, "D major", 6.0)[:1], RATE)
    write_audio(folder / "long.mp3", play(90, "F major", 11.0), RATE)
    write_audio(folder / "short.wav", music[:, :RATE], RATE)
    write_audio(folder / "zero.wav", np.zeros((2, 5 * RATE), np.float32), RATE)
    write_audio(folder / "loud.wav", 20 * music, RATE)
    gap = np.concatenate([music[:, : 2 * RATE], np.zeros((2, 3 * RATE), np.float32)], axis=1)
    write_audio(folder / "gap.wav", gap, RATE)
    (folder / "text.mp3").write_text("not music at all\n" * 99)
    torn = (folder / "good.wav").read_bytes()
    (folder / "torn.wav").write_bytes(torn[: len(torn) // 2])
    (folder / "notes.txt").write_text("ignored")
    (folder / ".hidden.wav").write_bytes(torn)
    return folder


def test_every_file_gets_a_row_with_its_reason(recordings, tmp_path):
    report = curate(recordings, tmp_path / "out", SHORT, workers=2)
    rows = by_name(report)
    assert {name: row.status for name, row in rows.items()} == {
        "good.wav": "success",
        "mono.flac": "success",
        "long.mp3": "success",
        "short.wav": "skipped",
        "zero.wav": "failed",
        "loud.wav": "failed",
        "gap.wav": "failed",
        "text.mp3": "failed",
        "torn.wav": "failed",
    }
    assert rows["short.wav"].reason == "too_short: 1.0 s long; at least 3 s are needed."
    assert "every sample is zero" in rows["zero.wav"].reason
    assert rows["loud.wav"].reason.startswith("excessive_clipping: ")
    assert rows["gap.wav"].reason.startswith("excessive_silence: 60% of the time")
    assert "not audio" in rows["text.mp3"].reason
    assert "only 3.0 s decode" in rows["torn.wav"].reason
    assert all(row.quality_score == 0 for row in rows.values() if row.status == "failed")
    written = {p.name for p in (tmp_path / "out").iterdir()}
    reports = {"curation.json", "curation.jsonl", "run.json"}
    assert written == {"good.mp3", "mono.mp3", "long.mp3"} | reports


def test_the_output_is_as_asked(recordings, tmp_path):
    report = curate(recordings, tmp_path / "out", SHORT, workers=1)
    for row in report.results:
        if row.status == "success":
            samples, rate = read_audio(Path(row.output_path))
            assert rate == 48000
            assert samples.shape[0] == 2
            assert decibels(peak(samples)) == pytest.approx(-1, abs=0.3)
            assert decibels(peak(samples)) <= -0.97
            assert samples.shape[1] / rate == pytest.approx(row.duration, abs=0.1)
    rows = by_name(report)
    assert rows["good.wav"].bpm == pytest.approx(84, rel=0.01)
    assert rows["good.wav"].key == "A minor"
    assert rows["long.mp3"].duration == 8.0
    assert rows["long.mp3"].notes[-1] == "cut from 11.0 s to 8 s"
    end = read_audio(Path(rows["long.mp3"].output_path))[0][:, -500:]
    assert np.abs(end).max() < 0.05


def test_the_report_has_the_agreed_keys(recordings, tmp_path):
    report = curate(recordings, tmp_path / "out", SHORT, workers=1)
    document = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert document["processed"] == 3
    assert document["skipped"] == 1
    assert document["failed"] == 5
    assert len(document["results"]) == 9
    row = next(r for r in document["results"] if r["source"].endswith("good.wav"))
    assert {"source", "status", "output_path", "duration", "quality_score"} <= set(row)
    assert row["measures"]["loudness_lufs"] < 0
    assert report.to_json()["results"] == [
        r | {"measures": r["measures"]} for r in document["results"]
    ]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["stage"] == "curate"
    assert record["config"]["max_duration"] == 8


def test_a_second_run_does_only_what_changed(recordings, tmp_path):
    out = tmp_path / "out"
    curate(recordings, out, SHORT, workers=1)
    before = (out / "good.mp3").stat().st_mtime_ns
    again = by_name(curate(recordings, out, SHORT, workers=1))
    assert again["good.wav"].unchanged
    assert again["short.wav"].unchanged
    assert (out / "good.mp3").stat().st_mtime_ns == before

    write_audio(recordings / "good.wav", play(100, "C major", 6.0), RATE)
    (out / "mono.mp3").unlink()
    third = by_name(curate(recordings, out, SHORT, workers=1))
    assert not third["good.wav"].unchanged
    assert third["good.wav"].key == "C major"
    assert not third["mono.flac"].unchanged
    assert third["long.mp3"].unchanged
    other = CurateSettings(min_duration=3, max_duration=8, normalize_peak=-3)
    assert not any(row.unchanged for row in curate(recordings, out, other, workers=1).results)


def test_results_do_not_depend_on_the_number_of_workers(recordings, tmp_path):
    one = curate(recordings, tmp_path / "one", SHORT, workers=1).results
    two = curate(recordings, tmp_path / "two", SHORT, workers=2).results
    assert [r.output_sha256 for r in one] == [r.output_sha256 for r in two]
    assert [r.bpm for r in one] == [r.bpm for r in two]


def tiny(folder, *names):
    """A tenth of a second of a tone a name; enough where only names matter."""
    tone = 0.3 * np.sin(np.arange(800) / 5)
    for name in names:
        write_audio(folder / name, tone.astype(np.float32)[None], 8000)


TINY = CurateSettings(min_duration=0, sample_rate=8000, target_format="wav")


def test_two_sources_with_one_stem_get_different_names(tmp_path):
    tiny(tmp_path / "in", "a/x.wav", "b/x.flac", "b/X.wav", "c/y.wav")
    outputs = [job.output.name for job in plan(tmp_path / "in", tmp_path / "out", TINY)]
    assert len({name.casefold() for name in outputs}) == 4
    assert "x.wav" in outputs
    assert "y.wav" in outputs
    assert outputs == [j.output.name for j in plan(tmp_path / "in", tmp_path / "out", TINY)]
    report = curate(tmp_path / "in", tmp_path / "out", TINY, workers=1)
    assert {Path(row.output_path).name for row in report.results} == set(outputs)


def test_a_new_file_does_not_take_the_name_of_one_that_was_done(tmp_path):
    tiny(tmp_path / "in", "m/x.wav")
    curate(tmp_path / "in", tmp_path / "out", TINY, workers=1)
    tiny(tmp_path / "in", "a/x.wav")
    new, old = curate(tmp_path / "in", tmp_path / "out", TINY, workers=1).results
    assert old.unchanged
    assert old.output_path == str(tmp_path / "out" / "x.wav")
    assert Path(new.output_path).name.startswith("x-")


def test_names_of_all_kinds(tmp_path):
    raw = b"latin \xe9\xff.wav".decode("utf-8", "surrogateescape")
    odd = [
        "Ünïcödé 東京 🎹.wav",
        "🎹" * 62 + ".wav",
        "e\u0301.wav",
        "é.flac",
        "a:b?.wav",
        "dot. .wav",
    ]
    odd += ["x" * 250 + ".wav", "new\nline.wav", "-rf.wav", "<script>.wav", "'; drop.wav", raw]
    tiny(tmp_path / "in", "plain.wav")
    for name in odd:
        kind = "plain.wav"
        (tmp_path / "in" / name).write_bytes((tmp_path / "in" / kind).read_bytes())
    report = curate(tmp_path / "in", tmp_path / "out", TINY, workers=1)
    assert [row.status for row in report.results] == ["success"] * (len(odd) + 1)
    names = [Path(row.output_path).name for row in report.results]
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert (tmp_path / "out" / name).is_file()
        assert len(f"{name}_prompt.txt".encode()) < 255
        assert not set(name) & set('\\/:*?"<>|\n')
    again = curate(tmp_path / "in", tmp_path / "out", TINY, workers=1)
    assert all(row.unchanged for row in again.results)


def test_links_pipes_and_files_that_are_gone(tmp_path):
    source = tmp_path / "in"
    tiny(source, "a.wav", "sub/b.wav")
    (source / "sub" / "up").symlink_to(source)
    (source / "self.wav").symlink_to("self.wav")
    (source / "nowhere.wav").symlink_to("missing")
    (source / "link.wav").symlink_to("a.wav")
    os.mkfifo(source / "pipe.wav")
    (source / "folder.wav").mkdir()
    rows = by_name(curate(source, tmp_path / "out", TINY, workers=1))
    assert {name for name, row in rows.items() if row.status == "success"} == {
        "a.wav",
        "b.wav",
        "link.wav",
    }
    assert "is not a regular file" in rows["pipe.wav"].reason
    assert "does not exist" in rows["nowhere.wav"].reason
    assert rows["self.wav"].reason.startswith("unreadable: ")


class Remover(Display):
    """Removes a file as soon as another one is done."""

    def __init__(self, path):
        super().__init__("none")
        self.path = path

    @contextmanager
    def task(self, title, total):
        yield self

    def advance(self, steps=1, note=None):
        self.path.unlink(missing_ok=True)


def test_a_file_that_vanishes_during_the_run(tmp_path):
    tiny(tmp_path / "in", "a.wav", "b.wav", "c.wav")
    display = Remover(tmp_path / "in" / "b.wav")
    rows = by_name(curate(tmp_path / "in", tmp_path / "out", TINY, display, workers=1))
    assert [rows[f"{n}.wav"].status for n in "abc"] == ["success", "failed", "success"]
    assert "does not exist" in rows["b.wav"].reason


def test_the_same_folders_by_another_name_are_not_done_again(tmp_path, monkeypatch):
    tiny(tmp_path / "in", "a.wav")
    curate(tmp_path / "in", tmp_path / "out", TINY, workers=1)
    monkeypatch.chdir(tmp_path)
    (row,) = curate(Path("in"), Path("out"), TINY, workers=1).results
    assert row.unchanged
    assert (row.source, row.output_path) == ("in/a.wav", "out/a.wav")


def test_only_one_run_a_folder(tmp_path):
    tiny(tmp_path / "in", "a.wav")
    with metadata_lock(tmp_path / "out"), pytest.raises(DatasetError, match="another process"):
        curate(tmp_path / "in", tmp_path / "out", TINY, workers=1)
    assert curate(tmp_path / "in", tmp_path / "out", TINY, workers=1).count("success") == 1
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_near_duplicates_are_reported_and_kept(tmp_path):
    music = play(84, "A minor", 9.0)
    write_audio(tmp_path / "in" / "first.wav", music, RATE)
    write_audio(tmp_path / "in" / "quiet" / "coded.mp3", 0.2 * music[:, RATE:], RATE)
    write_audio(tmp_path / "in" / "other.wav", play(101, "E major", 9.0, seed=3), RATE)
    report = curate(tmp_path / "in", tmp_path / "out", SHORT, workers=1)
    assert report.count("success") == 3
    document = json.loads((tmp_path / "out" / "curation.json").read_text())
    (group,) = document["duplicates"]
    assert group["kept"].endswith("first.wav")
    assert [Path(other["source"]).name for other in group["others"]] == ["coded.mp3"]
    assert group["others"][0]["similarity"] > 0.6
    notes = {Path(row["source"]).name: row["notes"] for row in document["results"]}
    assert "the same recording as coded.mp3" in notes["first.wav"]
    assert any("the same recording as first.wav" in note for note in notes["coded.mp3"])
    assert not any("the same" in note for note in notes["other.wav"])
    # Notes about others are not kept: without the other file there is nothing to say.
    (tmp_path / "in" / "quiet" / "coded.mp3").unlink()
    again = by_name(curate(tmp_path / "in", tmp_path / "out", SHORT, workers=1))
    assert again["first.wav"].unchanged
    assert not any("the same" in note for note in again["first.wav"].notes)


def test_the_output_folder_inside_the_input_is_left_out(tmp_path):
    write_audio(tmp_path / "in" / "x.wav", play(90, "C", 3.2), RATE)
    for _ in range(2):
        report = curate(tmp_path / "in", tmp_path / "in" / "out", SHORT, workers=1)
        assert len(report.results) == 1


@pytest.mark.parametrize("target", ["flac", "wav", "ogg"])
def test_other_formats(tmp_path, target):
    write_audio(tmp_path / "in" / "x.wav", play(90, "C", 3.2), RATE)
    settings = CurateSettings(min_duration=1, target_format=target, sample_rate=24000)
    report = curate(tmp_path / "in", tmp_path / "out", settings, workers=1)
    samples, _ = read_audio(tmp_path / "out" / f"x.{target}")
    assert report.count("success") == 1
    assert decibels(peak(samples)) <= -0.97


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(PathError, match="does not exist"):
        curate(tmp_path / "none", tmp_path / "out", SHORT)
    (tmp_path / "in").mkdir()
    with pytest.raises(PathError, match="has no audio"):
        curate(tmp_path / "in", tmp_path / "out", SHORT)
    assert not (tmp_path / "out").exists()
    write_audio(tmp_path / "in" / "x.wav", play(90, "C", 1.0), RATE)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(PathError, match="a folder is needed"):
        curate(tmp_path / "in", tmp_path / "out", SHORT)
    with pytest.raises(PathError, match="both the input and the output folder"):
        curate(tmp_path / "in", tmp_path / "in" / ".." / "in", SHORT)


def test_settings_that_do_not_go_together(tmp_path):
    tiny(tmp_path / "in", "a.wav")
    with pytest.raises(RequestError, match="workers are 1 or more, not 0"):
        curate(tmp_path / "in", tmp_path / "out", TINY, workers=0)
    with pytest.raises(RequestError, match="address is that of a Ray cluster"):
        curate(tmp_path / "in", tmp_path / "out", TINY, address="auto")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write and read everywhere")
def test_permissions(tmp_path):
    write_audio(tmp_path / "in" / "x.wav", play(90, "C", 3.2), RATE)
    write_audio(tmp_path / "in" / "y.wav", play(90, "C", 3.2), RATE)
    (tmp_path / "in" / "y.wav").chmod(0)
    report = curate(tmp_path / "in", tmp_path / "out", SHORT, workers=1)
    assert "Permission denied" in by_name(report)["y.wav"].reason
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(PathError, match="cannot be written"):
        curate(tmp_path / "in", tmp_path / "closed", SHORT, workers=1)
