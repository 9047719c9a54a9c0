from __future__ import annotations

import json

import pytest

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.dataset.prompts import default_mapping, load_mapping, write_prompts
from luthier.dataset.styles import load_presets
from luthier.dataset.tracks import Music
from luthier.errors import DatasetError, PathError

PRESETS = load_presets()


@pytest.fixture
def audio(tmp_path):
    folder = tmp_path / "audio"
    write_audio(folder / "one.wav", play(84, "A minor", 10.0), RATE)
    write_audio(folder / "two.flac", play(80, "Eb major", 10.0), RATE)
    return folder


def test_three_files_a_track_with_measured_tempo_and_key(audio):
    prompts = write_prompts(audio, {"one": ["CORE-02"], "two": ["INST-01"]}, PRESETS)
    text = (audio / "one_prompt.txt").read_text()
    assert text == prompts["one"].caption + "\n"
    assert "84 bpm, A minor" in text
    assert (audio / "two_lyrics.txt").read_text() == "[Instrumental]\n"
    facts = json.loads((audio / "two.json").read_text())
    assert facts["bpm"] == pytest.approx(80, rel=0.01)
    assert facts["keyscale"] == "Eb major"
    assert facts["timesignature"] == "4"
    assert facts["duration"] == 10.0
    assert facts["style_ids"] == ["INST-01"]
    assert facts["language"] == "en"
    assert facts["instrumental"] is True
    assert facts["needs_review"] is False


def test_a_folder_without_mapping(audio, tmp_path):
    assert default_mapping(audio) == {"one": ["CORE-01"], "two": ["CORE-01"]}
    prompts = write_prompts(audio, None, PRESETS, tmp_path / "out")
    assert all(prompt.needs_review for prompt in prompts.values())
    assert prompts["one"].style_ids == ("CORE-01",)
    assert {p.suffix for p in audio.iterdir()} == {".wav", ".flac"}


def test_known_music_is_not_measured(audio):
    known = {"one": Music(12.5, 70, "Gbm", "3")}
    one = write_prompts(audio, None, PRESETS, music=known)["one"]
    assert (one.bpm, one.keyscale, one.timesignature, one.duration) == (70, "F# minor", "3", 12.5)


def test_curation_has_measured_already(audio):
    rows = [
        {
            "status": "success",
            "source": "x/one.wav",
            "output_path": "x/one.wav",
            "duration": 9.0,
            "bpm": 77.0,
            "key": "C major",
        },
        {"status": "skipped", "source": "x/gone.wav", "output_path": None, "duration": 1.0},
    ]
    (audio / "curation.json").write_text(json.dumps({"results": rows}))
    prompts = write_prompts(audio, {"one": ["CORE-01"], "gone": ["CORE-01"]}, PRESETS)
    assert prompts["one"].bpm == 77
    assert prompts["two"].keyscale == "Eb major"
    assert set(prompts) == {"one", "two"}


def test_written_lyrics_are_kept(audio):
    (audio / "one_lyrics.txt").write_text("[Verse]\nrain on the window\n")
    prompts = write_prompts(audio, {"one": ["VOCAL-03"]}, PRESETS)
    assert (audio / "one_lyrics.txt").read_text() == "[Verse]\nrain on the window\n"
    assert not prompts["one"].instrumental


def test_repeats_and_seeds(audio):
    first = write_prompts(audio, None, PRESETS, seed=1)
    assert write_prompts(audio, None, PRESETS, seed=1) == first
    assert any(write_prompts(audio, None, PRESETS, seed=s) != first for s in range(2, 6))


def test_unknown_names_are_said(audio):
    with pytest.raises(DatasetError, match="'CORE-1'; the nearest is 'CORE-01'"):
        write_prompts(audio, {"one": ["CORE-1"]}, PRESETS)
    with pytest.raises(DatasetError, match=r"track 'onee'.*nearest there is 'one'"):
        write_prompts(audio, {"onee": ["CORE-01"]}, PRESETS)
    assert not list(audio.glob("*.txt"))


def test_wrong_mapping_files_and_folders(audio, tmp_path):
    path = tmp_path / "mapping.json"
    path.write_text('{"one": "CORE-01", "two": ["CORE-02", "CORE-03"]}')
    assert load_mapping(path) == {"one": ["CORE-01"], "two": ["CORE-02", "CORE-03"]}
    for text in ("[]", '{"one": []}', '{"one": 5}'):
        path.write_text(text)
        with pytest.raises(DatasetError, match="should"):
            load_mapping(path)
    with pytest.raises(PathError, match="has no audio"):
        write_prompts(tmp_path, None, PRESETS)
    write_audio(audio / "one.mp3", play(84, "C", 1.0), RATE)
    with pytest.raises(DatasetError, match=r"one\.mp3 and one\.wav"):
        write_prompts(audio, None, PRESETS)
