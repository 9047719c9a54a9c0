from __future__ import annotations

import json
import random
import shutil
from dataclasses import asdict
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.dataset.build import build_dataset, check_dataset, load_manifest, load_rows
from luthier.dataset.prompts import write_prompts
from luthier.dataset.rows import split_tracks
from luthier.dataset.styles import load_presets
from luthier.dataset.tracks import Music
from luthier.errors import DatasetError, LicenceError, PathError, RequestError

V1_COLUMNS = ("keys", "filename", "tags", "speaker_emb_path", "norm_lyrics", "recaption")
TRACKS = {f"t{i}": ["CORE-01"] if i < 3 else ["INST-01"] for i in range(5)}


def sources(allowed: bool = True, tracks=tuple(TRACKS)):
    return [
        {
            "source_id": "own",
            "track_ids": list(tracks),
            "source_type": "commissioned",
            "provider": "a | b",
            "license_type": "CC0-1.0",
            "date_acquired": "2025-01-01",
            "cost": 0,
            "ai_training_allowed": allowed,
        }
    ]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    known = {}
    for index, track in enumerate(TRACKS):
        write_audio(folder / f"{track}.wav", play(80 + index, "C major", 0.5), RATE)
        known[track] = Music(30.0, 80.0 + index, "C major")
    write_prompts(folder, TRACKS, load_presets(), music=known)
    meta = tmp_path / "meta"
    meta.mkdir()
    (meta / "sources.json").write_text(json.dumps(sources()))
    (meta / "style_mapping.json").write_text(json.dumps(TRACKS))
    return folder


def build(data: Path, **options):
    return build_dataset(data, data.parent / "meta", data.parent / "set", **options)


def test_the_summary(data):
    summary = build(data)
    assert set(asdict(summary)) == {
        "train_samples",
        "validation_samples",
        "total_duration_hours",
        "dataset_hash",
        "output_path",
        "unique_tracks",
    }
    assert summary.train_samples == 800
    assert summary.validation_samples == 1
    assert summary.unique_tracks == 5
    assert summary.total_duration_hours == pytest.approx(150 / 3600, abs=1e-4)


def test_what_the_version_1_loader_needs(data):
    build(data)
    out = data.parent / "set"
    train = datasets.load_from_disk(str(out / "train"))
    assert isinstance(train, datasets.Dataset)
    assert set(V1_COLUMNS) <= set(train.column_names)
    row = train[0]
    assert row["speaker_emb_path"] == ""
    assert row["recaption"] == {}
    assert Path(row["filename"]).is_absolute()
    assert Path(row["filename"]).is_file()
    assert ", ".join(row["tags"]) == row["caption"]
    assert len(row["caption"]) <= 256
    assert row["norm_lyrics"] == "[Instrumental]"


def test_rows_for_our_trainer(data):
    build(data)
    rows = load_rows(data.parent / "set", "train") + load_rows(data.parent / "set", "validation")
    assert sorted(row["keys"] for row in rows) == sorted(TRACKS)
    row = next(row for row in rows if row["keys"] == "t4")
    assert row["bpm"] == 84
    assert row["keyscale"] == "C major"
    assert row["duration"] == 30
    assert row["style_ids"] == ["INST-01"]
    assert row["source_id"] == "own"
    assert row["instrumental"] is True
    with pytest.raises(RequestError, match="train, validation"):
        load_rows(data.parent / "set", "test")
    with pytest.raises(DatasetError, match="not a data set"):
        load_rows(data, "train")


def test_repetition_costs_nothing_and_is_recorded(data):
    def size():
        return sum(f.stat().st_size for f in (data.parent / "set").rglob("*.arrow"))

    first = build(data, repeat_count=1)
    small = size()
    second = build(data, repeat_count=200)
    assert size() == small
    assert second.train_samples == 200 * first.train_samples
    assert second.dataset_hash == first.dataset_hash
    assert load_manifest(data.parent / "set")["repeat_count"] == 200


def test_the_hash_ignores_place_and_sees_content(data, tmp_path):
    first = build(data).dataset_hash
    shutil.move(data, tmp_path / "moved" / "data")
    moved = tmp_path / "moved" / "data"
    shutil.copytree(tmp_path / "meta", tmp_path / "moved" / "meta")
    assert build(moved).dataset_hash == first
    (moved / "t0_prompt.txt").write_text("another, prompt\n")
    assert build(moved).dataset_hash != first


def test_no_licence_no_data_set(data):
    meta = data.parent / "meta"
    for rows in (sources(allowed=False), sources(tracks=["t0", "t1"]), []):
        (meta / "sources.json").write_text(json.dumps(rows))
        with pytest.raises(LicenceError, match="t2"):
            build(data)
    assert not (data.parent / "set").exists()
    (meta / "sources.json").unlink()
    with pytest.raises(PathError, match=r"sources\.json does not exist"):
        build(data)


def test_the_card_and_the_record(data):
    build(data)
    card = (data.parent / "set" / "README.md").read_text()
    assert card.startswith("---\nlicense: other\n")
    assert "CC0-1.0" in card
    assert "a \\| b" in card
    assert "| INST-01 | 2 |" in card
    record = json.loads((data.parent / "set" / "run.json").read_text())
    assert record["licences"] == ["CC0-1.0"]
    assert record["seeds"] == {"split": 42}
    assert len(record["inputs"]) == 6


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / "t1_prompt.txt").unlink(), "t1_prompt.txt"),
        (lambda d: (d / "t1_lyrics.txt").unlink(), "luthier prompts"),
        (lambda d: (d / "t1_prompt.txt").write_text("a, , b"), "empty tag"),
        (lambda d: (d / "t1_prompt.txt").write_text("a, " * 90 + "b"), "characters"),
        (lambda d: (d / "t1_prompt.txt").write_text("a\nb"), "one line"),
        (lambda d: (d / "t1_prompt.txt").write_bytes(b"\xff\xfe"), "UTF-8"),
        (lambda d: (d / "t1.json").write_text("{}"), "lacks bpm"),
        (lambda d: (d.parent / "meta/style_mapping.json").write_text('{"t1": ["X"]}'), "no style"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(data, break_it, message):
    break_it(data)
    with pytest.raises(DatasetError, match=message):
        build(data)
    assert not (data.parent / "set").exists()


@pytest.mark.parametrize(
    "options", [{"validation_split": 0.9}, {"validation_split": -0.1}, {"repeat_count": 0}]
)
def test_wrong_numbers(data, options):
    with pytest.raises(RequestError):
        build(data, **options)


def test_a_folder_made_by_other_tools(data):
    for path in data.glob("*.json"):
        path.unlink()
    assert build(data).unique_tracks == 5


def test_a_folder_of_something_else_is_not_replaced(data):
    (data.parent / "set").mkdir()
    (data.parent / "set" / "thesis.txt").write_text("precious")
    with pytest.raises(PathError, match="holds other files"):
        build(data)
    assert (data.parent / "set" / "thesis.txt").read_text() == "precious"


def test_the_check_finds_what_changed(data):
    build(data)
    out = data.parent / "set"
    assert check_dataset(out) == []
    write_audio(data / "t0.wav", play(99, "D major", 0.5), RATE)
    (data / "t1.wav").unlink()
    problems = check_dataset(out)
    assert any("t0" in p and "has changed" in p for p in problems)
    assert any("t1" in p and "is gone" in p for p in problems)
    assert len(problems) == 2


rows_of_tracks = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from("abcd")), unique_by=lambda t: t[0], max_size=60
).map(lambda tracks: [{"keys": f"t{n}", "style_ids": [style]} for n, style in tracks])


@given(rows_of_tracks, st.floats(0.01, 0.5), st.integers(0, 99))
def test_a_split_is_whole_disjoint_and_ordered(rows, share, seed):
    train, validation = split_tracks(rows, share, seed)
    keys = sorted(row["keys"] for row in rows)
    assert sorted(row["keys"] for row in train + validation) == keys
    assert len(validation) >= (len(rows) >= 2)
    assert not rows or train
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert split_tracks(shuffled, share, seed) == (train, validation)


@given(st.integers(0, 99))
def test_a_split_is_stratified(seed):
    rows = [{"keys": f"t{i}", "style_ids": ["a" if i < 60 else "b"]} for i in range(100)]
    _, validation = split_tracks(rows, 0.1, seed)
    assert sum(row["style_ids"] == ["a"] for row in validation) == 6
