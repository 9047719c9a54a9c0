from __future__ import annotations

import json

import numpy as np
import pytest

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.dataset.tracks import Music
from luthier.errors import DatasetError, PathError
from luthier.music.dataset.prompts import (
    PromptSettings,
    default_mapping,
    known_tracks,
    load_mapping,
    write_prompts,
)
from luthier.music.dataset.styles import load_presets

PRESETS = load_presets()
KNOWN = {"one": Music(90.0, 84.0, "A minor"), "two": Music(40.0, 160.0, "Eb major", "3")}


@pytest.fixture
def audio(tmp_path):
    """Two tracks; what is in them does not matter where the music is `KNOWN`."""
    folder = tmp_path / "audio"
    for name in ("one.wav", "two.flac"):
        write_audio(folder / name, np.zeros((2, 800), np.float32), 8000)
    return folder


def prompts_of(audio, mapping=None, output_dir=None, **settings):
    return write_prompts(
        audio, mapping, PRESETS, output_dir, music=KNOWN, settings=PromptSettings(**settings)
    )


def facts_of(audio, name):
    return json.loads((audio / f"{name}.json").read_text())


def test_tempo_and_key_are_measured(tmp_path):
    write_audio(tmp_path / "a.wav", play(84, "A minor", 10.0), RATE)
    prompts = write_prompts(tmp_path, {"a": ["CORE-02"]}, PRESETS)
    text = (tmp_path / "a_prompt.txt").read_text()
    assert text == prompts["a"].caption + "\n"
    assert "84 bpm, A minor" in text
    assert facts_of(tmp_path, "a")["duration"] == 10.0


def test_three_files_a_track(audio):
    prompts = prompts_of(audio, {"one": ["CORE-02"], "two": ["INST-01"]})
    assert "84 bpm, A minor" in (audio / "one_prompt.txt").read_text()
    assert (audio / "two_lyrics.txt").read_text() == "[Instrumental]\n"
    facts = facts_of(audio, "two")
    assert facts["caption"] == prompts["two"].caption
    assert (facts["bpm"], facts["keyscale"], facts["timesignature"]) == (80.0, "Eb major", "3")
    assert (facts["duration"], facts["style_ids"]) == (40.0, ["INST-01"])
    assert (facts["language"], facts["instrumental"]) == ("en", True)
    assert (facts["needs_review"], facts["review"], facts["kept"]) == (False, [], [])
    assert not (audio / "run.json").exists()  # that one is of what made the audio


def test_a_folder_without_mapping_is_marked_for_review(audio, tmp_path):
    assert default_mapping(audio) == {"one": ["CORE-01"], "two": ["CORE-01"]}
    prompts = prompts_of(audio, {"one": ["CORE-03"]}, tmp_path / "out")
    assert not prompts["one"].needs_review
    assert prompts["two"].review == ("it has no style in the mapping and was taken as CORE-01.",)
    assert prompts["two"].style_ids == ("CORE-01",)
    assert {p.suffix for p in audio.iterdir()} == {".wav", ".flac"}
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["stage"] == "prompts"
    assert run["seeds"] == {"moods": 42}


def test_curation_has_measured_already(audio):
    rows = [
        {
            "status": "success",
            "source": f"x/{name}",
            "output_path": f"x/{name}",
            "duration": 9.0,
            "bpm": 77.0,
            "key": "C major",
        }
        for name in ("one.wav", "two.flac")
    ]
    gone = {"status": "skipped", "source": "x/gone.wav", "output_path": None, "duration": 1.0}
    (audio / "curation.json").write_text(json.dumps({"results": [*rows, gone]}))
    assert known_tracks(audio) == {"one", "two", "gone"}
    prompts = write_prompts(audio, {"one": ["CORE-01"], "gone": ["CORE-01"]}, PRESETS)
    assert (prompts["one"].bpm, prompts["one"].keyscale) == (77, "C major")
    assert set(prompts) == {"one", "two"}


def test_repeats_are_the_same_and_seeds_differ(audio):
    first = prompts_of(audio, seed=1)
    files = {p.name: p.read_bytes() for p in audio.iterdir()}
    assert prompts_of(audio, seed=1) == first
    assert {p.name: p.read_bytes() for p in audio.iterdir()} == files
    assert any(prompts_of(audio, seed=s) != first for s in range(2, 6))


def test_what_a_person_wrote_is_kept_and_said(audio):
    prompts_of(audio, {"one": ["CORE-01"]})
    (audio / "one_prompt.txt").write_text("my own words, 84 bpm\n")
    (audio / "two_lyrics.txt").write_text("[Verse]\nrain on the window\n")
    for seed in (1, 2):  # and the second time, too
        prompts = prompts_of(audio, {"one": ["CORE-05"]}, seed=seed)
        assert prompts["one"].caption == "my own words, 84 bpm"
        assert (audio / "one_prompt.txt").read_text() == "my own words, 84 bpm\n"
        assert (audio / "two_lyrics.txt").read_text() == "[Verse]\nrain on the window\n"
        assert (prompts["one"].kept, prompts["two"].kept) == (("prompt",), ("lyrics",))
        assert facts_of(audio, "one")["caption"] == "my own words, 84 bpm"
        assert not prompts["two"].instrumental
    replaced = prompts_of(audio, {"one": ["CORE-05"]}, overwrite=True)
    assert replaced["one"].caption.startswith("chillhop")
    assert (audio / "two_lyrics.txt").read_text() == "[Instrumental]\n"
    assert not replaced["two"].kept


def test_texts_that_others_made_are_kept_but_looked_at(audio):
    (audio / "one_prompt.txt").write_text("a, , b" + ", c" * 100)
    (audio / "one_lyrics.txt").write_text("rain without a header")
    one = prompts_of(audio, {"one": ["CORE-01"]})["one"]
    assert one.kept == ("prompt", "lyrics")
    assert len(one.review) == 3
    assert "empty tag" in one.review[0]
    assert "306 characters" in one.review[1]
    assert "no section header" in one.review[2]


def test_the_track_s_own_metadata_goes_before_measures(audio):
    prompts_of(audio)
    facts = facts_of(audio, "one")
    facts |= {"bpm": 132.0, "keyscale": "Bbm", "style_ids": ["CORE-04"], "language": "fr", "my": 1}
    (audio / "one.json").write_text(json.dumps(facts))
    for _ in range(2):
        one = prompts_of(audio)["one"]
        assert "132 bpm, Bb minor" in one.caption
        assert (one.style_ids, one.language, one.needs_review) == (("CORE-04",), "fr", False)
        assert facts_of(audio, "one")["my"] == 1  # what luthier does not know stays
    assert prompts_of(audio, {"one": ["CORE-02"]})["one"].style_ids == ("CORE-02",)
    (audio / "one.json").write_text('{\n "bpm": 5000}')
    with pytest.raises(DatasetError, match=r"one\.json:2:9: bpm is 5000, but"):
        prompts_of(audio)


def test_vocal_styles_get_a_sheet_to_fill_in(audio):
    mapping = {"one": ["VOCAL-03"], "two": ["CORE-01", "VOCAL-05"]}
    without = prompts_of(audio, mapping)
    assert (audio / "one_lyrics.txt").read_text() == "[Instrumental]\n"
    assert "write them, or ask for a sheet" in without["one"].review[0]
    prompts = prompts_of(audio, mapping, include_lyrics=True)
    sheet = (audio / "one_lyrics.txt").read_text()
    assert [line for line in sheet.splitlines() if line.startswith("[")] == [
        "[Intro]",
        "[Verse 1]",
        "[Chorus]",
        "[Verse 2]",
        "[Chorus]",
        "[Outro]",
    ]
    assert "(soulful vocals)" in sheet
    assert not prompts["one"].instrumental
    assert "put the words that are sung" in prompts["one"].review[0]
    assert (audio / "two_lyrics.txt").read_text() == (
        "[Verse]\n(humming)\n\n[Chorus]\n(wordless vocals)\n"  # forty seconds are soon over
    )
    assert not prompts["two"].needs_review  # nobody sings words there
    (audio / "one_lyrics.txt").write_text("[Verse]\n雨が降る まどの外\n")
    assert prompts_of(audio, mapping)["one"].language == "ja"


def test_a_dry_run_writes_nothing(audio, tmp_path):
    prompts = prompts_of(audio, output_dir=tmp_path / "out", dry_run=True)
    assert prompts["one"].caption.startswith("lofi hip hop")
    assert not (tmp_path / "out").exists()


def test_unknown_names_are_said(audio):
    with pytest.raises(DatasetError, match="'CORE-1'; the nearest is 'CORE-0"):
        prompts_of(audio, {"one": ["CORE-1"]})
    with pytest.raises(DatasetError, match=r"track 'onee'.*nearest there is 'one'"):
        prompts_of(audio, {"onee": ["CORE-01"]})
    assert not list(audio.glob("*.txt"))


def test_wrong_folders(audio, tmp_path):
    path = tmp_path / "mapping.json"
    path.write_text('{"one": "CORE-01", "two": ["CORE-02", "CORE-03"]}')
    assert load_mapping(path) == {"one": ["CORE-01"], "two": ["CORE-02", "CORE-03"]}
    with pytest.raises(PathError, match="has no audio"):
        write_prompts(tmp_path, None, PRESETS)
    write_audio(audio / "one.mp3", np.zeros((2, 8000), np.float32), 8000)
    with pytest.raises(DatasetError, match=r"one\.mp3 and one\.wav"):
        prompts_of(audio)
