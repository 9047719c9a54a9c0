from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from luthier.errors import DatasetError, PathError
from luthier.files import read_json, write_json
from luthier.music.dataset.acestep_import import import_acestep
from luthier.music.dataset.acestep_json import to_acestep
from luthier.music.dataset.build import BuildSettings, build_dataset, load_rows
from prepared import prepare, source, write_track

LONG = "A slow, dusty beat. " * 20


def sample(folder: Path, name: str, **changes):
    row = {
        "id": f"{name:0>8}",
        "audio_path": str(folder / f"{name}.wav"),
        "filename": f"{name}.wav",
        "caption": f"a lofi beat, {name}",
        "genre": "lofi",
        "lyrics": "[Instrumental]",
        "raw_lyrics": "",
        "formatted_lyrics": "",
        "bpm": 80,
        "keyscale": "C Major",
        "timesignature": "4",
        "duration": 30,
        "language": "unknown",
        "is_instrumental": True,
        "custom_tag": "",
        "labeled": True,
        "prompt_override": None,
    }
    return row | changes


@pytest.fixture
def document(tmp_path):
    """Every odd thing that such files hold, and fields that nobody knows."""
    folder = tmp_path / "audio"
    for number, name in enumerate(("a", "b", "c", "d")):
        write_track(folder, name, number)
        for path in folder.glob(f"{name}[_.]*[tn]"):
            path.unlink()
    (folder / "sub").mkdir()
    shutil.copy(folder / "d.wav", folder / "sub" / "a.wav")
    samples = [
        sample(folder, "d", bpm=None, keyscale="", timesignature="", duration=0, language="xx"),
        sample(folder, "a", caption=LONG.strip(), custom_tag="mybeat", keyscale="C Dorian"),
        sample(
            folder,
            "b",
            lyrics="[Verse]\r\nWords in the rain\n",
            raw_lyrics="Words in the rain",
            formatted_lyrics="[Verse]\nWords in the rain",
            language="en",
            is_instrumental=False,
            timesignature="4/4",
            duration=30.25,
            bpm=80.5,
        ),
        sample(folder, "c", lyrics="", prompt_override="genre", audio_path="audio/c.wav", rating=5),
        sample(folder, "a", id="12345678", audio_path=str(folder / "sub" / "a.wav"), bpm="120"),
    ]
    metadata = {
        "name": "my_lora_dataset",
        "custom_tag": "mybeat",
        "tag_position": "prepend",
        "created_at": "2026-02-08T10:00:00",
        "num_samples": 5,
        "all_instrumental": False,
        "genre_ratio": 30,
        "future_field": [1],
    }
    path = tmp_path / "dataset.json"
    write_json(path, {"metadata": metadata, "samples": samples, "version": 2})
    return path


def built(folder: Path):
    """The rows of a data set built from an imported folder."""
    names = sorted(p.stem for p in folder.glob("*.wav"))
    write_json(folder.parent / "meta" / "sources.json", [source(track_ids=names)])
    out = folder.parent / "set"
    build_dataset(folder, folder.parent / "meta", out, BuildSettings(validation_split=0.3))
    return [row for split in ("train", "validation") for row in load_rows(out, split)]


def test_there_and_back_through_a_data_set_is_letter_for_letter(document, tmp_path):
    report = import_acestep(document, tmp_path / "folder")
    assert report.tracks == ("d", "a", "b", "c", "a-12345678")
    again = to_acestep(built(tmp_path / "folder"), "other", "later")
    assert again == read_json(document)
    assert list(again["samples"][0]) == list(read_json(document)["samples"][0])


def test_what_the_samples_say_becomes_rows(document, tmp_path):
    import_acestep(document, tmp_path / "folder")
    rows = {row["keys"]: row for row in built(tmp_path / "folder")}
    assert rows["a"]["caption"] == f"mybeat, {LONG.strip()}"
    assert rows["a"]["tags"][:2] == ["mybeat", "A slow"]
    assert len(", ".join(rows["a"]["tags"])) <= 256
    assert rows["a"]["keyscale"] is None
    assert rows["b"]["lyrics"] == "[Verse]\nWords in the rain"
    assert (rows["b"]["language"], rows["b"]["instrumental"]) == ("en", False)
    assert (rows["b"]["bpm"], rows["b"]["timesignature"]) == (80.5, "4")
    assert (rows["c"]["caption"], rows["c"]["keyscale"]) == ("lofi", "C major")
    assert rows["d"]["duration"] == pytest.approx(0.25)
    assert (rows["d"]["bpm"], rows["d"]["timesignature"]) == (None, None)
    assert (rows["d"]["language"], rows["d"]["instrumental"]) == ("unknown", True)
    assert rows["a-12345678"]["bpm"] == 120
    assert rows["c"]["filename"] == str(tmp_path / "audio" / "c.wav")


def test_an_edited_fact_is_written_and_the_rest_stays(document, tmp_path):
    folder = tmp_path / "folder"
    import_acestep(document, folder)
    (folder / "a_prompt.txt").write_text("shorter, words\n")
    (folder / "b_lyrics.txt").write_text("[Verse]\nOther words\n")
    facts = read_json(folder / "d.json")
    write_json(folder / "d.json", facts | {"bpm": 90, "keyscale": "A minor"})
    samples = to_acestep(built(folder), "other", "later")["samples"]
    before = read_json(document)["samples"]
    assert samples[0] == before[0] | {"bpm": 90, "keyscale": "A minor"}
    assert samples[1] == before[1] | {"caption": "shorter, words", "custom_tag": ""}
    changed = {"lyrics": "[Verse]\nOther words", "formatted_lyrics": ""}
    assert samples[2] == before[2] | changed
    assert samples[3:] == before[3:]


def test_rows_of_our_own_make_a_file(tmp_path):
    data = prepare(tmp_path)
    build_dataset(data, tmp_path / "meta", tmp_path / "set", BuildSettings(repeat_count=3))
    rows = load_rows(tmp_path / "set", "train")
    content = to_acestep(rows, "beats", "2026-01-01")
    assert content["metadata"] == {
        "name": "beats",
        "custom_tag": "",
        "tag_position": "prepend",
        "created_at": "2026-01-01",
        "num_samples": 4,
        "all_instrumental": True,
        "genre_ratio": 0,
    }
    first = content["samples"][0]
    assert set(first) == set(sample(data, "x"))
    assert len(first["id"]) == 8
    assert first["caption"] == rows[0]["caption"]
    assert (first["bpm"], first["keyscale"], first["duration"]) == (81, "C major", 30)
    assert Path(first["audio_path"]).is_file()
    path = tmp_path / "out.json"
    path.write_text(json.dumps(content))
    import_acestep(path, tmp_path / "again")
    rebuilt = to_acestep(built(tmp_path / "again"), "other", "later")
    assert rebuilt == content


def test_a_dry_run_checks_and_writes_nothing(document, tmp_path):
    report = import_acestep(document, tmp_path / "folder", dry_run=True)
    assert len(report.tracks) == 5
    assert any("'C Dorian' is not understood" in note for note in report.notes)
    assert any("kept whole" in note for note in report.notes)
    assert not (tmp_path / "folder").exists()


def test_what_is_wrong_is_said(document, tmp_path):
    good = read_json(document)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(PathError, match="not empty"):
        import_acestep(document, tmp_path / "full")
    for value, message in (
        ([], "no data set file"),
        ({"samples": {}}, "no data set file"),
        ({"metadata": [], "samples": []}, "metadata should be an object"),
        ({"samples": []}, "has no samples"),
        ({"samples": [{}]}, r"dataset\.json:1:\d+: the field 'audio_path' is missing"),
        ({"samples": [good["samples"][0] | {"bpm": [1]}]}, "bpm"),
        ({"samples": [3]}, r"dataset\.json:1:"),
        ({"samples": [good["samples"][0] | {"audio_path": "/none.wav"}]}, "1 audio files .*not"),
        ({"samples": [good["samples"][0] | {"audio_path": str(document)}]}, "no name of an audio"),
    ):
        document.write_text(json.dumps(value))
        with pytest.raises(DatasetError, match=message):
            import_acestep(document, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_sample_without_a_caption_wants_one(document, tmp_path):
    value = read_json(document)
    value["samples"] = [value["samples"][0] | {"caption": "", "labeled": False}]
    write_json(document, value)
    report = import_acestep(document, tmp_path / "folder")
    assert "has no caption" in report.notes[0]
    with pytest.raises(DatasetError, match="luthier prompts"):
        built(tmp_path / "folder")
