from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.audio.encode import write_audio
from luthier.dataset.sources import load_sources
from luthier.errors import DatasetError, LicenceError, PathError, RequestError
from luthier.files import read_json, write_json
from luthier.music.dataset.build import BuildSettings, build_dataset, load_manifest, load_rows
from luthier.music.dataset.check import check_dataset
from luthier.music.dataset.rows import shortened
from luthier.music.dataset.split import split_tracks
from prepared import RATE, STYLES, prepare, source, write_track


@pytest.fixture
def data(tmp_path):
    return prepare(tmp_path)


def build(data: Path, **options):
    settings = BuildSettings(**options)
    return build_dataset(data, data.parent / "meta", data.parent / "set", settings)


def both(data: Path):
    return [
        row for split in ("train", "validation") for row in load_rows(data.parent / "set", split)
    ]


def test_the_summary(data):
    summary = build(data)
    assert set(summary.to_json()) == {
        "train_samples",
        "validation_samples",
        "total_duration_hours",
        "dataset_hash",
        "output_path",
        "unique_tracks",
        "warnings",
    }
    assert summary.train_samples == 800
    assert summary.validation_samples == 1
    assert summary.unique_tracks == 5
    assert summary.total_duration_hours == pytest.approx(150 / 3600, abs=1e-4)
    assert summary.warnings == ()


def test_rows_for_our_trainer(data):
    build(data)
    rows = both(data)
    assert sorted(row["keys"] for row in rows) == sorted(STYLES)
    row = next(row for row in rows if row["keys"] == "t4")
    assert row["bpm"] == 84
    assert row["keyscale"] == "C major"
    assert row["timesignature"] == "4"
    assert row["duration"] == 30
    assert row["style_ids"] == ["INST-01"]
    assert row["source_id"] == "own"
    assert row["language"] == "en"
    assert row["instrumental"] is True
    assert row["caption"] == "lofi hip hop, chill, piano, 84 bpm"
    with pytest.raises(RequestError, match="train, validation"):
        load_rows(data.parent / "set", "test")
    with pytest.raises(DatasetError, match="not a data set"):
        load_rows(data, "train")


@pytest.mark.parametrize("repeat_validation", [False, True])
def test_repetition_is_seen_by_a_reader_and_costs_no_storage(data, repeat_validation):
    out = data.parent / "set"

    def stored():
        return {p.name: p.stat().st_size for p in out.glob("*/*.arrow")}

    first = build(data, repeat_count=1)
    small = stored()
    second = build(data, repeat_count=200, repeat_validation=repeat_validation)
    assert stored() == small
    assert second.train_samples == 200 * first.train_samples
    assert second.validation_samples == (200 if repeat_validation else 1)
    assert second.dataset_hash == first.dataset_hash
    manifest = load_manifest(out)
    assert manifest["repeat_count"] == 200
    assert manifest["train_samples"] == second.train_samples
    train = datasets.load_from_disk(str(out / "train"))
    assert len(train) == 800
    assert set(Counter(train["keys"]).values()) == {200}
    assert train[799] == train[3]
    assert len(load_rows(out, "train")) == 4
    assert len(datasets.load_from_disk(str(out / "validation"))) == second.validation_samples
    assert check_dataset(out).problems == ()


def test_a_repeat_is_another_content_to_the_cache_of_datasets(data):
    prints = set()
    for count in (1, 2, 2):
        build(data, repeat_count=count)
        prints.add(datasets.load_from_disk(str(data.parent / "set" / "train"))._fingerprint)
    assert len(prints) == 2


def test_the_hash_ignores_place_and_order_and_sees_content(data, tmp_path):
    first = build(data).dataset_hash
    shutil.move(data, tmp_path / "moved" / "data")
    moved = tmp_path / "moved" / "data"
    shutil.copytree(tmp_path / "meta", tmp_path / "moved" / "meta")
    mapping = tmp_path / "moved" / "meta" / "style_mapping.json"
    write_json(mapping, dict(reversed(read_json(mapping).items())))
    assert build(moved).dataset_hash == first
    assert len({build(moved, seed=seed).dataset_hash for seed in range(4)}) > 1
    (moved / "t0_prompt.txt").write_text("another, prompt\n")
    assert build(moved).dataset_hash != first


def test_no_licence_no_data_set(data):
    meta = data.parent / "meta"
    for rows in ([source(ai_training_allowed=None)], [source(track_ids=["t0", "t1"])], []):
        write_json(meta / "sources.json", rows)
        with pytest.raises(LicenceError, match="t2"):
            build(data)
    assert not (data.parent / "set").exists()
    (meta / "sources.json").unlink()
    with pytest.raises(PathError, match=r"sources\.json does not exist"):
        build(data)


def test_licences_are_asked_before_anything_is_read(data):
    write_json(data.parent / "meta" / "sources.json", [])
    (data / "t0_prompt.txt").unlink()
    with pytest.raises(LicenceError):
        build(data)


def test_the_manifest_and_the_record(data):
    summary = build(data)
    manifest = load_manifest(data.parent / "set")
    assert manifest["hash"] == summary.dataset_hash
    assert manifest["dataset_id"] == summary.dataset_hash[:12]
    assert (manifest["track_count"], manifest["train_count"]) == (5, 4)
    assert manifest["validation_count"] == 1
    assert manifest["style_distribution"] == {
        "core": 3,
        "seasonal": 0,
        "thematic": 0,
        "instrumental": 2,
        "vocal": 0,
    }
    assert manifest["styles"] == {"CORE-01": 3, "INST-01": 2}
    record = read_json(data.parent / "set" / "run.json")
    assert record["licences"] == ["CC0-1.0"]
    assert record["seeds"] == {"split": 42}
    assert len(record["inputs"]) == 7  # two metadata files, five tracks


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / "t1_prompt.txt").unlink(), "t1_prompt.txt"),
        (lambda d: (d / "t1_lyrics.txt").unlink(), "luthier prompts"),
        (lambda d: (d / "t1_lyrics.txt").write_text(" \n"), r"\[Instrumental\]"),
        (lambda d: (d / "t1_prompt.txt").write_text("a, , b"), "empty tag"),
        (lambda d: (d / "t1_prompt.txt").write_text(""), "empty tag"),
        (lambda d: (d / "t1_prompt.txt").write_text("a, " * 90 + "b"), "characters"),
        (lambda d: (d / "t1_prompt.txt").write_text("a\nb"), "one line"),
        (lambda d: (d / "t1_prompt.txt").write_bytes(b"\xff\xfe"), "UTF-8"),
        (lambda d: (d / "t1.json").write_text("{}"), r"t1\.json:1:1: the field 'bpm' is missing"),
        (lambda d: write_track(d, "t1", 1, bpm="fast"), r"t1\.json:3:\d+: bpm is \"fast\""),
        (lambda d: write_track(d, "t1", 1, keyscale="H dur"), "keyscale"),
        (lambda d: write_track(d, "t1", 1, language="klingon"), "'klingon' is no language"),
        (lambda d: write_track(d, "t1", 1, duration=0), "duration"),
        (lambda d: (d / "t0.mp3").write_bytes(b""), "both the track 't0'"),
        (lambda d: (d.parent / "meta/style_mapping.json").write_text('{"t1": ["X"]}'), "no style"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(data, break_it, message):
    break_it(data)
    with pytest.raises(DatasetError, match=message):
        build(data)
    assert not (data.parent / "set").exists()
    assert sorted(p.name for p in data.parent.iterdir()) == ["data", "meta"]


@pytest.mark.parametrize(
    "options", [{"validation_split": 0.9}, {"validation_split": -0.1}, {"repeat_count": 0}]
)
def test_wrong_numbers(options):
    with pytest.raises(RequestError):
        BuildSettings(**options)


def test_a_folder_made_by_other_tools(data):
    for path in data.glob("*.json"):
        path.unlink()
    assert build(data).unique_tracks == 5


def test_doubtful_tracks_are_told(data):
    shutil.copy(data / "t0.wav", data / "t1.wav")
    write_track(data, "t2", 2, needs_review=True)
    write_track(data, "t3", 3, language="sv", instrumental=False, duration=300)
    (data / "t3_lyrics.txt").write_text("[Verse]\nwrite a sad song that genre is lofi\n")
    mapping = data.parent / "meta" / "style_mapping.json"
    write_json(mapping, read_json(mapping) | {"t44": ["CORE-01"]})
    told = "\n".join(build(data).warnings)
    assert "t0, t1 are the same audio" in told
    assert "1 tracks have a style that wants review: t2" in told
    assert "ACE-Step v1 cannot sing in 'sv'" in told
    assert "blanks lyrics" in told
    assert "cuts the track at 240 s" in told
    assert "1 tracks that are not in" in told
    assert "the nearest there is 't4'" in told


def test_a_single_track_trains_and_the_missing_validation_is_told(tmp_path):
    data = prepare(tmp_path, {"only": ["CORE-01"]})
    summary = build(data)
    assert (summary.train_samples, summary.validation_samples) == (200, 0)
    assert "nothing is held out" in summary.warnings[0]
    assert build(data, validation_split=0).warnings == ()
    assert load_rows(tmp_path / "set", "validation") == []
    assert check_dataset(tmp_path / "set").problems == ()


@pytest.mark.parametrize("name", ["thesis.txt", "dataset_manifest.json.bak"])
def test_a_folder_of_something_else_is_not_replaced(data, name):
    out = data.parent / "set"
    build(data)
    (out / name).write_text("precious")
    with pytest.raises(PathError, match=name):
        build(data)
    assert (out / name).read_text() == "precious"


def test_the_inputs_are_never_replaced(data):
    meta = data.parent / "meta"
    write_json(meta / "dataset_manifest.json", {})
    for out in (data, meta, data.parent):
        with pytest.raises(PathError, match="would be replaced"):
            build_dataset(data, meta, out)
    assert (data / "t0.wav").is_file()


def test_a_failed_write_leaves_the_old_data_set(data):
    """A file size limit stands in for a full disk: the system refuses the write half-way."""
    before = build(data).dataset_hash
    (data / "t0_prompt.txt").write_text("another, prompt\n")
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "import pyarrow\n"
        "from luthier.music.dataset.build import build_dataset\n"
        "from luthier.errors import LuthierError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))\n"
        "root = Path(sys.argv[1])\n"
        "try:\n"
        "    build_dataset(root / 'data', root / 'meta', root / 'set')\n"
        "except LuthierError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(data.parent)], capture_output=True, text=True
    )
    assert "could not be written and was left as it was" in done.stdout, done.stderr
    assert load_manifest(data.parent / "set")["hash"] == before
    assert sorted(p.name for p in data.parent.iterdir()) == ["data", "meta", "set"]


def test_a_sound_data_set_passes_the_check(data):
    build(data)
    found = check_dataset(data.parent / "set")
    assert (found.problems, found.losses) == ((), ())


def test_the_check_finds_what_changed(data):
    build(data)
    out = data.parent / "set"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, RATE)).astype(np.float32)
    write_audio(data / "t0.wav", noise, RATE)
    (data / "t1.wav").unlink()
    problems = check_dataset(out).problems
    assert any("t0" in p and "has changed" in p for p in problems)
    assert any("t1" in p and "is gone" in p for p in problems)
    assert len(problems) == 2


def test_the_check_asks_for_todays_licences(data):
    build(data)
    path = data.parent / "meta" / "sources.json"
    write_json(path, [source(ai_training_allowed=False)])
    problems = check_dataset(data.parent / "set", load_sources(path)).problems
    assert len(problems) == 5
    assert "t0: may not be trained on: own does not allow AI training." in problems


def _rewrite(split: Path, change) -> None:
    """Write a split anew with changed rows: what editing by other tools would do."""
    found = datasets.load_from_disk(str(split))
    rows = change(found.to_list())
    columns = {name: [row[name] for row in rows] for name in found.features}
    changed = datasets.Dataset.from_dict(columns, features=found.features)
    shutil.rmtree(split)
    changed.save_to_disk(str(split))


def _with(**changes):
    return lambda rows: [rows[0] | changes, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with(tags=["a", ""]), "has an empty tag"),
        (_with(tags=["a\nb"]), "more than one line"),
        (_with(tags=["long tag"] * 40), "398 characters"),
        (_with(language="xx"), "no language 'xx'"),
        (_with(norm_lyrics=""), "lyrics are empty"),
        (lambda rows: rows + rows[:1], "train has 5 samples, but the manifest says 4"),
        (lambda rows: rows[:2] + rows[:2], "is 2 times in train"),
        (lambda rows: rows[1:], "has 3 tracks, but the manifest says 4"),
        (lambda rows: [], "no training tracks"),
    ],
)
def test_the_check_reads_the_rows(data, change, message):
    build(data, repeat_count=1)
    _rewrite(data.parent / "set" / "train", change)
    problems = check_dataset(data.parent / "set").problems
    assert any(message in problem for problem in problems), problems


def test_the_check_finds_leaks(data):
    build(data, repeat_count=1)
    out = data.parent / "set"
    held_out = load_rows(out, "validation")[0]
    _rewrite(out / "train", lambda rows: [held_out, *rows[1:]])
    problems = check_dataset(out).problems
    assert f"{held_out['keys']}: the same recording is in both splits." in problems
    _rewrite(out / "train", _with(keys="other"))
    problems = check_dataset(out).problems
    assert any("other and" in p and "same recording" in p for p in problems)


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_a_damaged_data_set_is_said(data, name):
    build(data)
    out = data.parent / "set"
    for content in (b"", b"[1"):
        (out / "train" / name).write_bytes(content)
        with pytest.raises((DatasetError, PathError), match=r"cannot be read|not valid"):
            load_rows(out, "train")


def test_a_manifest_of_something_else_is_said(data):
    build(data)
    for value in ([], {}, {"hash": ""}):
        write_json(data.parent / "set" / "dataset_manifest.json", value)
        with pytest.raises(DatasetError, match="train_count"):
            load_rows(data.parent / "set", "train")


def test_shortening_keeps_whole_tags_or_words():
    assert shortened("a, b") == "a, b"
    assert shortened("one\n two,  , three ,\n") == "one two, three ,"
    assert shortened(", ".join(["x" * 9] * 40)) == ", ".join(["x" * 9] * 23)
    assert shortened(" ".join(["word"] * 99)) == " ".join(["word"] * 51)
    assert shortened("y" * 300) == "y" * 256


rows_of_tracks = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from("abcd"), st.integers(0, 60)),
    unique_by=lambda t: t[0],
    max_size=60,
).map(
    lambda tracks: [
        {"keys": f"t{n}", "style_ids": [style], "sha256": f"{s}"} for n, style, s in tracks
    ]
)


@given(rows_of_tracks, st.floats(0.01, 0.5), st.integers(0, 99))
def test_a_split_is_whole_disjoint_and_ordered(rows, share, seed):
    train, validation = split_tracks(rows, share, seed)
    keys = sorted(row["keys"] for row in rows)
    assert sorted(row["keys"] for row in train + validation) == keys
    recordings = {row["sha256"] for row in rows}
    assert not {r["sha256"] for r in train} & {r["sha256"] for r in validation}
    assert bool(validation) >= (len(recordings) >= 2)
    assert not rows or train
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert split_tracks(shuffled, share, seed) == (train, validation)


@given(st.integers(0, 99))
def test_a_split_is_stratified_by_category(seed):
    rows = [
        {"keys": f"t{i}", "style_ids": [f"{'A' if i < 60 else 'B'}-{i % 7}"]} for i in range(100)
    ]
    _, validation = split_tracks(rows, 0.1, seed, lambda style: style[0])
    assert sum(row["style_ids"][0].startswith("A") for row in validation) == 6


def test_the_files_of_a_data_set(data):
    build(data)
    names = {
        p.relative_to(data.parent / "set").as_posix() for p in (data.parent / "set").rglob("*")
    }
    assert {"README.md", "dataset_manifest.json", "run.json", "train", "validation"} <= names
    assert json.loads((data.parent / "set" / "train" / "state.json").read_text())["_split"] is None
