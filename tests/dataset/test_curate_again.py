"""A second curation into the same folder: what is not wanted any more leaves it, what is not ours
stays, and names never meet luthier's own files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.cli.main import main
from luthier.dataset.curate import CurateReport, CurateSettings, curate
from luthier.dataset.curation_log import INTENDED_NAME, Ledger
from luthier.dataset.track_names import facts_name, find_facts
from luthier.dataset.tracks import REJECTED, find_audio, walk_audio
from luthier.errors import OutputError, PathError
from luthier.files import read_json, sha256_of, write_json
from luthier.music.dataset.prompts import known_tracks, write_prompts
from luthier.music.dataset.styles import load_presets
from luthier.music.evaluation.clip_measures import audio_files
from luthier.provenance import read_record

TINY = CurateSettings(min_duration=0.5, sample_rate=8000, target_format="wav")


def tone(path: Path, seconds: float = 1.0, pitch: float = 5.0) -> Path:
    wave = 0.3 * np.sin(np.arange(round(8000 * seconds)) / pitch)
    write_audio(path, wave.astype(np.float32)[None], 8000)
    return path


def run(tmp_path: Path, settings: CurateSettings = TINY, source: str = "in") -> CurateReport:
    return curate(tmp_path / source, tmp_path / "out", settings, workers=1)


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def audio(folder: Path) -> list[str]:
    return [name for name in names(folder) if name.endswith(".wav")]


def test_a_track_that_is_rejected_now_leaves_with_its_texts_and_comes_back(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav", 1.0)
    tone(tmp_path / "in" / "b.wav", 3.0, 7.0)
    out = tmp_path / "out"
    assert run(tmp_path).rejected == ()
    write_prompts(out, None, load_presets())
    (out / "a_prompt.txt").write_text("my own words\n")
    before = sha256_of(out / "a.wav")
    report = run(tmp_path, TINY.model_copy(update={"min_duration": 2.0}))
    assert set(find_audio(out)) == {"b"}
    (moved,) = report.rejected
    assert (moved.output_path, moved.moved_to) == (
        str(out / "a.wav"),
        str(out / REJECTED / "a.wav"),
    )
    assert moved.reason.startswith("too_short: 1.0 s long")
    assert names(out / REJECTED) == ["a.json", "a.wav", "a_lyrics.txt", "a_prompt.txt"]
    assert not (out / "a_prompt.txt").exists()
    assert read_json(out / "curation.json")["rejected"] == [moved.to_json()]
    assert known_tracks(out) == {"a", "b"}  # a mapping may go on naming it

    again = run(tmp_path)
    assert set(find_audio(out)) == {"a", "b"}
    assert [row.unchanged for row in again.results] == [True, True]
    assert [row.moved_to for row in again.restored] == [str(out / "a.wav")]
    assert sha256_of(out / "a.wav") == before
    assert (out / "a_prompt.txt").read_text() == "my own words\n"
    assert names(out / REJECTED) == []


def test_a_track_whose_source_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, pitch in (("a", 5.0), ("b", 7.0)):
        tone(tmp_path / "in" / f"{name}.wav", 1.0, pitch)
    run(tmp_path)
    (tmp_path / "in" / "a.wav").unlink()
    words = ["curate", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1"]
    flags = ["--min-duration", "0.5", "--sample-rate", "8000", "--target-format", "wav"]
    assert main([*words, *flags]) == 0
    told = capsys.readouterr().out
    assert "rejected " in told
    assert "its source a.wav is gone" in told
    assert audio(tmp_path / "out") == ["b.wav", "rejected/a.wav"]
    tone(tmp_path / "in" / "a.wav", 1.0, 5.0)  # it is back
    assert main([*words, *flags, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [row["moved_to"] for row in value["restored"]] == [str(tmp_path / "out" / "a.wav")]
    assert audio(tmp_path / "out") == ["a.wav", "b.wav"]


def test_a_source_that_is_another_now_keeps_the_texts(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    tone(tmp_path / "in" / "b.wav", 1.0, 9.0)
    run(tmp_path)
    (tmp_path / "out" / "a_prompt.txt").write_text("mine")
    (tmp_path / "in" / "a.wav").write_bytes(b"no music any more")
    assert [m.reason[:10] for m in run(tmp_path).rejected] == ["unreadable"]
    assert names(tmp_path / "out" / REJECTED) == ["a.wav", "a_prompt.txt"]
    tone(tmp_path / "in" / "a.wav", 2.0, 11.0)
    assert run(tmp_path).count("success") == 2
    assert (tmp_path / "out" / "a_prompt.txt").read_text() == "mine"
    assert names(tmp_path / "out" / REJECTED) == ["a.wav"]  # the old music: nothing is deleted


def test_what_another_format_made_is_superseded_and_the_texts_stay(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    run(tmp_path)
    (tmp_path / "out" / "a_prompt.txt").write_text("mine")
    report = run(tmp_path, TINY.model_copy(update={"target_format": "flac"}))
    assert [m.reason for m in report.rejected] == ["it is a.flac now."]
    assert set(find_audio(tmp_path / "out")) == {"a"}
    assert (tmp_path / "out" / "a_prompt.txt").read_text() == "mine"


def test_what_somebody_put_in_place_of_a_track_stays(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    tone(tmp_path / "in" / "b.wav", 1.0, 7.0)
    run(tmp_path)
    out = tmp_path / "out"
    theirs = tone(out / "a.wav", 4.0, 3.0).read_bytes()
    (tmp_path / "in" / "a.wav").unlink()
    report = run(tmp_path)
    assert report.foreign == (str(out / "a.wav"),)
    assert report.to_json()["foreign"] == [str(out / "a.wav")]
    assert (out / "a.wav").read_bytes() == theirs
    tone(tmp_path / "in" / "a.wav")
    row = next(r for r in run(tmp_path).results if r.source.endswith("a.wav"))
    assert (out / "a.wav").read_bytes() == theirs
    assert row.output_path is not None
    assert Path(row.output_path).name.startswith("a-")
    assert any("a.wav is not what luthier wrote" in note for note in row.notes)
    assert all(r.unchanged for r in run(tmp_path).results)


@pytest.mark.parametrize("name", ["a.wav", "A.mp3", "a.flac"])
def test_a_file_that_was_there_before_is_not_written_over(tmp_path: Path, name: str) -> None:
    tone(tmp_path / "in" / "a.wav")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"a recording of theirs")
    (row,) = run(tmp_path).results
    assert row.status == "success"
    assert (tmp_path / "out" / name).read_bytes() == b"a recording of theirs"
    assert Path(str(row.output_path)).name.startswith("a-")


def test_a_link_that_was_there_before_is_not_written_over(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_bytes(b"x")
    (tmp_path / "out" / "a.wav").symlink_to(tmp_path / "precious")
    run(tmp_path)
    assert (tmp_path / "precious").read_bytes() == b"x"
    assert (tmp_path / "out" / "a.wav").is_symlink()


def test_tracks_of_another_input_folder_stay(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    tone(tmp_path / "in" / "x.wav", 1.0, 8.0)
    tone(tmp_path / "more" / "a.wav", 2.0, 9.0)
    run(tmp_path)
    first = sha256_of(tmp_path / "out" / "a.wav")
    report = run(tmp_path, source="more")
    assert report.rejected == ()
    assert sha256_of(tmp_path / "out" / "a.wav") == first
    assert len(audio(tmp_path / "out")) == 3
    assert all(r.unchanged for r in run(tmp_path).results)
    assert all(r.unchanged for r in run(tmp_path, source="more").results)
    assert len(audio(tmp_path / "out")) == 3


def test_both_folders_moved_are_the_same(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    tone(tmp_path / "in" / "b.wav", 1.0, 8.0)
    run(tmp_path)
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "b.wav").unlink()
    report = run(tmp_path, source="elsewhere")
    assert [row.unchanged for row in report.results] == [True]
    assert audio(tmp_path / "out") == ["a.wav", "rejected/b.wav"]


def test_what_a_killed_run_wrote_without_a_row_is_its_own(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    run(tmp_path)
    out = tmp_path / "out"
    assert not (out / INTENDED_NAME).exists()
    (out / "curation.jsonl").write_bytes(b"")  # the file is there, its row is not
    write_json(out / INTENDED_NAME, ["a.wav"])
    (row,) = run(tmp_path).results
    assert row.output_path == str(out / "a.wav")
    assert audio(out) == ["a.wav"]
    assert not (out / INTENDED_NAME).exists()


def test_rejected_tracks_are_never_walked_into(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    tone(tmp_path / "in" / "rejected" / "mine.wav", 1.0, 9.0)  # a folder of theirs is one
    run(tmp_path)
    (tmp_path / "in" / "a.wav").unlink()
    run(tmp_path)
    out = tmp_path / "out"
    assert audio(out) == ["mine.wav", "rejected/a.wav"]
    assert [path.name for path in walk_audio(out)] == ["mine.wav"]
    assert [path.name for path in walk_audio(tmp_path / "in")] == ["mine.wav"]
    assert audio_files(out, "reference") == ["mine.wav"]
    assert audio_files(tmp_path / "in", "reference") == ["rejected/mine.wav"]
    assert set(find_audio(out)) == {"mine"}


@pytest.mark.parametrize(
    "stem", ["run", "curation", "manifest", "measures", "sources", "style_mapping", "metadata"]
)
@pytest.mark.parametrize("spell", [str, str.upper])
def test_a_track_called_like_one_of_our_files(tmp_path: Path, stem: str, spell: type[str]) -> None:
    name = spell(stem)
    tone(tmp_path / "in" / f"{name}.wav")
    out = tmp_path / "out"
    (row,) = run(tmp_path).results
    made = Path(str(row.output_path)).stem
    assert made.startswith(f"{name}-")
    assert any(f"called {made}" in note for note in row.notes)
    write_prompts(out, None, load_presets())
    assert read_record(out / "run.json")["stage"] == "curate"
    assert read_json(out / "curation.json")["processed"] == 1
    assert all(row.unchanged for row in run(tmp_path).results)


def test_texts_of_such_a_track_in_a_folder_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    for name in ("run", "run.track", "RUN.TRACK.track"):
        tone(folder / f"{name}.wav")
    write_json(folder / "run.json", {"stage": "curate", "inputs": []})
    write_prompts(folder, None, load_presets())
    assert read_json(folder / "run.json") == {"stage": "curate", "inputs": []}
    facts = [facts_name(name) for name in ("run", "run.track", "RUN.TRACK.track")]
    assert facts == ["run.track.json", "run.track.track.json", "RUN.TRACK.track.track.json"]
    assert all("caption" in read_json(folder / name) for name in facts)


def test_what_earlier_versions_called_run_json_is_read_still(tmp_path: Path) -> None:
    facts = {"caption": "mine", "bpm": 80, "style_ids": ["CORE-01"]}
    write_json(tmp_path / "run.json", facts)
    assert find_facts(tmp_path, "run") == tmp_path / "run.json"
    write_json(tmp_path / "run.json", {"stage": "curate", "inputs": []})
    assert find_facts(tmp_path, "run") == tmp_path / "run.track.json"


def test_a_track_that_an_earlier_version_called_run_gets_another_name(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "run.wav")
    run(tmp_path)
    out = tmp_path / "out"
    (made,) = audio(out)
    ledger = out / "curation.jsonl"  # as if it had been written before names were reserved
    os.rename(out / made, out / "run.wav")
    ledger.write_text(ledger.read_text().replace(made, "run.wav"))
    (out / "run_prompt.txt").write_text("mine")
    assert run(tmp_path).count("success") == 1
    assert set(audio(out)) == {made, "rejected/run.wav"}
    assert (out / f"{Path(made).stem}_prompt.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["run.json", "curation.json"])
def test_a_file_of_somebody_else_is_not_taken_for_ours(tmp_path: Path, name: str) -> None:
    tone(tmp_path / "in" / "a.wav")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("my notes")
    with pytest.raises(OutputError, match=name):
        run(tmp_path)
    assert names(tmp_path / "out") == [name]
    assert (tmp_path / "out" / name).read_text() == "my notes"


def test_the_ledger_keeps_who_wrote_what_is_there(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    for bitrate in range(64, 73):
        run(tmp_path, TINY.model_copy(update={"bitrate": bitrate}))
    ledger = Ledger(tmp_path / "out", TINY)
    assert set(ledger.owners) == {"a.wav"}
    assert sha256_of(tmp_path / "out" / "a.wav") in ledger.digests["a.wav"]
    assert ledger.path.read_bytes().count(b"\n") <= 4


@pytest.mark.parametrize("verb", ["prompts", "evaluate"])
def test_a_name_that_is_no_text_is_a_sentence(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tone(tmp_path / "audio" / "a.wav")
    os.rename(made, os.fsencode(tmp_path / "audio") + b"/\xff\xfe.wav")
    tone(tmp_path / "real" / "b.wav")
    more = ["--reference", str(tmp_path / "real"), "--no-cache"] if verb == "evaluate" else []
    assert main([verb, str(tmp_path / "audio"), *more]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is no UTF-8 text" in said
    with pytest.raises(PathError, match="rename it"):
        find_audio(tmp_path / "audio")
