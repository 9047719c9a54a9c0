"""Labelling and building ACE-Step 1.5's data set file from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.cli.main import main
from luthier.errors import DatasetError, PathError
from luthier.files import write_json
from luthier.music.dataset.acestep_label import LabelSettings, label_acestep
from luthier.music.dataset.build import SPLITS, load_rows
from luthier.music.dataset.styles import load_presets
from prepared import source

RATE = 16000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two recordings at 120 beats a minute; the first has labels of its own."""
    times = np.arange(8 * RATE) / RATE
    for name, pitch in (("one", 220.0), ("two", 330.0)):
        struck = 0.4 * np.sin(2 * np.pi * pitch * times) * np.exp(-8 * (times % 0.5))
        write_audio(tmp_path / f"{name}.wav", struck[None].astype(np.float32), RATE)
    said = {"caption": "mine", "labeled": True, "bpm": 77, "keyscale": "D minor", "mark": [1]}
    samples = [{"audio_path": "one.wav", **said}, {"audio_path": "two.wav", "lyrics": "la"}]
    write_json(tmp_path / "in.json", {"metadata": {"name": "n"}, "samples": samples, "more": 1})
    write_json(tmp_path / "sources.json", [source(track_ids=["one", "two"])])
    return tmp_path / "in.json"


def samples_of(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["samples"])


def test_what_is_heard_and_a_caption_are_written(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    report = label_acestep(file, out, {"one": ["INST-01"]}, load_presets())
    one, two = samples_of(out)
    assert report.labelled == ("one.wav", "two.wav")
    assert report.notes == (
        "1 recordings have no style in the mapping and were described as CORE-01: look at their "
        "captions. The first is two.wav.",
    )
    assert one["bpm"] in (60, 120)
    assert (one["duration"], one["mark"], one["labeled"]) == (8.0, [1], True)
    assert one["keyscale"] in one["caption"]
    assert one["genre"] != two["genre"]
    assert two["lyrics"] == "la"
    assert json.loads(out.read_text())["more"] == 1


def test_what_is_labelled_can_be_left_alone(file: Path) -> None:
    before = samples_of(file)
    settings = LabelSettings(only_unlabelled=True)
    assert label_acestep(file, file, {}, load_presets(), settings).labelled == ("two.wav",)
    assert samples_of(file)[0] == before[0]
    assert label_acestep(file, file, {}, load_presets(), settings).labelled == ()


def test_facts_of_the_file_can_count(file: Path) -> None:
    label_acestep(file, file, {}, load_presets(), LabelSettings(keep_music=True))
    one, two = samples_of(file)
    assert (one["bpm"], one["keyscale"], "bpm" in two) == (77, "D minor", False)
    assert "77 bpm" in one["caption"].lower()
    assert "D minor" in one["caption"]


def test_the_same_seed_gives_the_same_captions(file: Path, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        label_acestep(file, tmp_path / name, {}, load_presets())
    assert samples_of(tmp_path / "a.json") == samples_of(tmp_path / "b.json")


def test_recordings_elsewhere_can_be_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    with pytest.raises(PathError, match="2 recordings lie outside the folders allowed"):
        label_acestep(file, file, {}, load_presets(), below=[tmp_path / "inside"])
    with pytest.raises(DatasetError, match="there is no style 'CORE-99'"):
        label_acestep(file, file, {"one": ["CORE-99"]}, load_presets())
    assert samples_of(file)[0]["caption"] == "mine"


def test_the_commands_lead_to_a_data_set(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = tmp_path / "set", ["dataset", "build-json", str(file), "--metadata", str(tmp_path)]
    words += ["--out", str(out), "--below", str(tmp_path)]
    assert main(words) == 1
    assert "two.wav" in capsys.readouterr().err  # it has no caption yet
    label = ["dataset", "label-json", str(file), "--out", str(file), "--only-unlabeled"]
    assert main([*label, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"samples": 1}
    assert main(label) == 0
    assert main([*words, "--dry-run"]) == 0
    assert not out.exists()
    assert main(words) == 0
    rows = {row["keys"]: row for split in SPLITS for row in load_rows(out, split)}
    assert rows["one"]["caption"] == "mine"
    assert rows["one"]["filename"] == str(tmp_path / "one.wav")
    write_json(tmp_path / "sources.json", [source(track_ids=["one"])])
    capsys.readouterr()
    assert main([*words, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["refused"][0]["track_id"] == "two"
