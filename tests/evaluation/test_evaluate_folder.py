"""A folder of clips → an evaluation, on real files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.errors import AudioError, PathError, RequestError
from luthier.files import write_json
from luthier.music.evaluation.compare import rank, scored
from luthier.music.evaluation.evaluate import Evaluation, evaluate_folder
from luthier.music.evaluation.requests import parse_requests, read_requests
from luthier.provenance import write_run

RATE = 24_000
# Triads in semitones from the tonic: i iv V i, I IV V I.
CHORDS = {
    "minor": ((0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7)),
    "major": ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)),
}


def song(
    path: Path, bpm: float, tonic: int, mode: str, *, noise: float = 0.002, seed: int = 0
) -> Path:
    """Write 10 s of a cadence with drums: its tempo and key are known."""
    generator = np.random.default_rng(seed)
    total = noise * generator.normal(size=10 * RATE)
    for number, start in enumerate(np.arange(0, 10, 60 / bpm)):
        after = np.arange(min(RATE, 10 * RATE - int(start * RATE))) / RATE
        part = 0.5 * np.exp(-60 * after) * generator.normal(size=after.size)
        for step in CHORDS[mode][number // 4 % 4]:
            hz = 440 * 2 ** ((tonic + step + 48 - 57) / 12)
            for harmonic in (1, 2, 3):
                part += 0.2 / harmonic * np.exp(-4 * after) * np.sin(6.2832 * hz * harmonic * after)
        total[int(start * RATE) :][: after.size] += part
    write_audio(path, (0.7 * total / np.abs(total).max())[None].astype(np.float32), RATE)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`real`, `near` (alike), `far` (the same with much noise)."""
    root = tmp_path_factory.mktemp("evaluate")
    for number, (bpm, tonic, mode) in enumerate(
        [(120, 9, "minor"), (96, 0, "major"), (80, 7, "major")]
    ):
        song(root / "real" / f"{number}.flac", bpm, tonic, mode, seed=number)
        song(root / "near" / f"{number}.wav", bpm, tonic, mode, seed=10 + number)
        song(root / "far" / f"{number}.wav", bpm, tonic, mode, noise=0.3, seed=10 + number)
    return root


REQUESTS = [
    {"file": "0.wav", "bpm": 120, "key": "Am", "style_id": "CORE-01"},
    {"file": "1.wav", "bpm": 96, "key": "C major", "style_id": "CORE-02"},
    {"file": "2.wav", "bpm": 111, "key": "D minor"},
]


@pytest.fixture(scope="module")
def near(folders: Path) -> Evaluation:
    return evaluate_folder(folders / "near", folders / "real", requests=REQUESTS)


def test_the_checkpoint_validators_keys_come_first(near: Evaluation) -> None:
    told = near.to_json()
    contract = ["checkpoint", "fad_score", "clap_score", "style_coverage", "samples_generated"]
    assert list(told)[:5] == contract
    assert told["checkpoint"] == "near"
    assert told["fad_score"] == told["fad"]["value"] == pytest.approx(near.fad.value, abs=1e-6)
    assert told["clap_score"] is None
    assert "CLAP" in told["clap"]["reason"]
    assert told["samples_generated"] == 3
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_styles_that_cannot_be_told_are_null_with_a_reason(near: Evaluation) -> None:
    """The real tracks of this folder name no styles."""
    assert near.style_coverage == {"CORE-01": None, "CORE-02": None}
    assert "two styles at least" in str(near.to_json()["styles"]["reason"])


def test_gates_say_what_they_were_held_against(near: Evaluation) -> None:
    gates = {gate["name"]: gate for gate in near.to_json()["gates"]}
    assert list(gates) == ["fad", "clap", "styles", "usable"]
    assert gates["fad"]["raw"] == near.to_json()["fad_score"]
    assert gates["fad"]["embedding"] == "mel-stats-v1"
    assert gates["fad"]["n"] == near.fad.n_candidate
    assert gates["fad"]["passed"] is (gates["fad"]["value"] < 5)
    assert gates["clap"]["passed"] is None
    assert gates["usable"]["passed"] is True
    assert near.failed == ()


def test_every_clip_has_its_distance_and_its_repetition(near: Evaluation) -> None:
    rows = near.to_json()["clips"]
    assert all(row["distance"] > 0 and 0 < row["repetition"] <= 1 for row in rows)
    assert near.fad.interval is not None
    assert near.fad.interval[0] <= near.fad.value <= near.fad.interval[1]
    assert near.fad.warning is not None  # 57 windows in 72 dimensions
    assert "72 dimensions" in near.fad.warning


def test_tempo_and_key_are_checked_against_the_requests(near: Evaluation) -> None:
    assert near.tempo is not None
    assert near.key is not None
    assert [c.passed for c in near.tempo.checks] == [True, True, False]
    assert [c.passed for c in near.key.checks] == [True, True, False]
    told = near.to_json()["tempo"]
    assert (told["passed"], told["n"]) == (2, 3)
    assert told["checks"][2]["measured_bpm"] == pytest.approx(80, rel=0.04)


def test_levels_are_those_of_the_clips(near: Evaluation) -> None:
    assert near.clipping_ratio == 0
    assert near.silence_ratio == 0
    assert near.loudness_lufs is not None
    assert -30 < near.loudness_lufs < -5
    assert all(clip.measures.duration_s == 10 for clip in near.clips)


def test_noise_is_further_from_the_real_tracks(folders: Path, near: Evaluation) -> None:
    far = evaluate_folder(folders / "far", folders / "real", requests=REQUESTS)
    assert far.fad.value > 2 * near.fad.value
    assert [gate.name for gate in far.failed] == ["fad"]
    ranking = rank([scored(far.to_json()), scored(near.to_json())])
    assert ranking.best.name == "near"
    assert "nearest to the real tracks" in ranking.reason


def test_a_set_is_at_no_distance_from_itself(folders: Path) -> None:
    result = evaluate_folder(folders / "real", folders / "real")
    assert result.fad.value == pytest.approx(0, abs=1e-9)
    assert result.tempo is None
    assert result.key is None
    assert "not asked" in result.to_text()


def test_the_same_folders_give_the_same_numbers(folders: Path, near: Evaluation) -> None:
    again = evaluate_folder(folders / "near", folders / "real", requests=list(reversed(REQUESTS)))
    assert again.to_json() == near.to_json()


def test_what_is_written(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation.json"
    result = evaluate_folder(
        folders / "near", folders / "real", requests=REQUESTS, checkpoint="step=9_lora", out=out
    )
    assert json.loads(out.read_text()) == result.to_json()
    assert json.loads(out.read_text())["checkpoint"] == "step=9_lora"
    record = json.loads((tmp_path / "evaluation.json.run.json").read_text())
    assert record["stage"] == "evaluate"
    assert [Path(i["path"]).name for i in record["inputs"]] == ["near", "real"]
    assert record["config"]["requests"][0]["key"] == "A minor"


def test_the_clips_own_records_are_the_requests(folders: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(folders / "near", clips)
    write_run(clips / "0.wav", stage="generate", config={"bpm": 120, "key": "A minor", "steps": 8})
    write_run(clips / "1.wav", stage="generate", config={"bpm": None, "prompt": "x"})
    write_run(clips / "2.wav", stage="generate", config={"request": {"bpm": 80, "key": None}})
    result = evaluate_folder(clips, folders / "real")
    assert result.tempo is not None
    assert result.key is not None
    assert [c.file for c in result.tempo.checks] == ["0.wav", "2.wav"]
    assert [c.requested for c in result.key.checks] == ["A minor"]


def test_a_silent_clip_does_not_cover_its_style(folders: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "c" / "s.wav", np.zeros((2, 3 * RATE), np.float32), RATE)
    shutil.copy(folders / "near" / "0.wav", tmp_path / "c" / "t.wav")
    requests = [
        {"file": "s.wav", "style_id": "CORE-03", "bpm": 80, "key": "C major"},
        {"file": "t.wav", "style_id": "CORE-04"},
    ]
    result = evaluate_folder(tmp_path / "c", folders / "real", requests=requests)
    assert result.style_coverage == {"CORE-03": False, "CORE-04": None}
    assert result.to_json()["gates"][-1]["raw"] == 0.5
    assert result.silence_ratio == 0.5
    assert result.tempo is not None
    assert not result.tempo.checks[0].passed


def test_folders_below_are_read_and_temporary_files_are_not(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "near", tmp_path / "c" / "deep")
    (tmp_path / "c" / "deep" / ".x.1234abcd.tmp.wav").write_bytes(b"half")
    (tmp_path / "c" / "notes.txt").write_text("not audio")
    result = evaluate_folder(tmp_path / "c", folders / "real")
    assert [clip.file for clip in result.clips] == ["deep/0.wav", "deep/1.wav", "deep/2.wav"]


@pytest.mark.parametrize("which", ["candidate", "reference"])
def test_missing_and_empty_folders(folders: Path, tmp_path: Path, which: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    out = tmp_path / "evaluation.json"
    for bad, message in (
        ("none", "does not exist"),
        ("empty", "has no audio in it"),
        ("file", "is a file"),
    ):
        pair = (tmp_path / bad, folders / "real")
        with pytest.raises(PathError, match=message):
            evaluate_folder(*(pair if which == "candidate" else pair[::-1]), out=out)
    assert not out.exists()


def test_a_file_that_is_not_audio_is_named(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "near", tmp_path / "c")
    (tmp_path / "c" / "z.mp3").write_text("this is text")
    with pytest.raises(AudioError, match=r"z\.mp3"):
        evaluate_folder(tmp_path / "c", folders / "real", out=tmp_path / "e.json")
    assert not (tmp_path / "e.json").exists()


def test_too_little_audio_is_a_sentence(folders: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "c" / "a.wav", np.full((1, 100), 0.1, np.float32), RATE)
    with pytest.raises(AudioError, match="at least 2 embedding windows"):
        evaluate_folder(tmp_path / "c", folders / "real")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"bpm": 90}, "file"),
        ({"file": "a.wav", "bpm": 0}, "bpm"),
        ({"file": "a.wav", "bpm": "fast"}, "bpm"),
        ({"file": "a.wav", "bpm": float("nan")}, "bpm"),
        ({"file": "a.wav", "key": "H moll"}, "is not a key"),
        ({"file": "b.wav"}, "not among the 1 clips"),
    ],
)
def test_a_bad_request_names_its_row(row: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        parse_requests([row], ["a.wav"])
    assert "request 1 of 1" in str(caught.value)


def test_two_requests_about_one_clip() -> None:
    with pytest.raises(RequestError, match="two requests"):
        parse_requests([{"file": "a.wav"}, {"file": "a.wav"}], ["a.wav"])


@pytest.mark.parametrize("value", [{"file": "a"}, ["a"], 3, [[1]]])
def test_a_requests_file_holds_a_list(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "r.json", value)
    with pytest.raises(RequestError, match="must hold a JSON list"):
        read_requests(tmp_path / "r.json")


def test_real_tracks_are_measured_once(
    folders: Path, near: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time nothing of the reference is decoded, and the numbers are the same."""
    from luthier.music.evaluation import clip_measures as listen

    evaluate_folder(folders / "near", folders / "real", requests=REQUESTS)
    decoded: list[str] = []
    plain = listen.read_audio

    def counted(path: Path, **wanted: int) -> object:
        decoded.append(path.parent.name)
        return plain(path, **wanted)

    monkeypatch.setattr(listen, "read_audio", counted)
    again = evaluate_folder(folders / "near", folders / "real", requests=REQUESTS)
    assert set(decoded) == {"near"}
    assert again.to_json() == near.to_json()
