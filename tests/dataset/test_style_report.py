from __future__ import annotations

import datetime
import json
import subprocess
import sys

import pytest

from luthier.errors import DatasetError, RequestError
from luthier.music.dataset.style_edits import (
    QualityScore,
    StyleEdit,
    assign_styles,
    load_scores,
    score_tracks,
)
from luthier.music.dataset.style_mapping import load_mapping
from luthier.music.dataset.style_report import DEFAULT_TARGETS, parse_targets, report_styles
from luthier.music.dataset.styles import load_presets

PRESETS = load_presets()
DAY = datetime.date(2026, 1, 31)


@pytest.fixture
def meta(tmp_path):
    mapping = {"rain-1": ["CORE-01", "SEASON-06"], "rain-2": "CORE-01", "jazz [2]": ["CORE-02"]}
    (tmp_path / "style_mapping.json").write_text(json.dumps(mapping))
    return tmp_path


def test_tracks_are_counted_by_category_and_style():
    mapping = {f"t{n}": ["CORE-01"] for n in range(6)}
    mapping |= {
        "a": ["THEME-01", "CORE-01"],
        "b": ["VOCAL-01"],
        "c": ["VOCAL-01"],
        "d": ["CORE-02"],
    }
    scores = {"a": {"score": 80, "verified": True}, "gone": {"score": 5, "verified": True}}
    report = report_styles(mapping, PRESETS, [*mapping, "bare"], scores=scores)
    rows = {row.category: row for row in report.categories}
    assert report.tracks == 11
    assert report.untagged == ("bare",)
    assert (rows["core"].tracks, rows["core"].share, rows["core"].lacking) == (7, 0.7, 0)
    assert (rows["seasonal"].tracks, rows["seasonal"].lacking) == (0, 2)  # 20 % of ten
    assert (rows["thematic"].tracks, rows["thematic"].lacking) == (1, 1)
    assert (rows["vocal"].tracks, rows["vocal"].target_share) == (2, 0.1)
    styles = {row.style_id: row for row in report.styles}
    assert styles["CORE-01"].tracks == 7  # a mention counts
    assert len(report.gaps) == 34
    assert (report.scored, report.verified, report.mean_score) == (1, 1, 80)
    assert json.loads(json.dumps(report.to_json()))["gaps"] == list(report.gaps)


def test_the_parts_that_styles_lack_of_a_large_collection():
    mapping = {f"t{n}": ["CORE-01"] for n in range(500)}
    lacking = {row.style_id: row.lacking for row in report_styles(mapping, PRESETS).styles}
    assert (lacking["CORE-01"], lacking["CORE-02"]) == (0, 28)  # 40 % over seven styles
    assert (lacking["SEASON-01"], lacking["THEME-01"], lacking["VOCAL-01"]) == (11, 10, 10)


def test_an_empty_collection():
    report = report_styles({}, PRESETS)
    assert (report.tracks, report.mean_score, len(report.gaps)) == (0, None, 38)


def test_targets():
    assert sum(DEFAULT_TARGETS.values()) == pytest.approx(1)
    assert parse_targets([]) == pytest.approx(DEFAULT_TARGETS)
    found = parse_targets(["core=0.7", "vocal=0"])
    assert (found["core"], found["vocal"]) == (0.7, 0)
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)
    for word in ("core", "core=x", "core=2", "cores=0.1", "core=-1"):
        with pytest.raises(RequestError, match=r"such as core=0\.4"):
            parse_targets([word])
    with pytest.raises(RequestError, match="shares of one whole"):
        parse_targets(["core=0.7", "vocal=0.7"])


def test_styles_are_set_added_and_removed(meta):
    edit = StyleEdit(add=("INST-01", "CORE-01"), remove=("SEASON-06",))
    after = assign_styles(meta, ["rain-*"], edit, PRESETS)
    assert after == {"rain-1": ["CORE-01", "INST-01"], "rain-2": ["CORE-01", "INST-01"]}
    assign_styles(meta, ["jazz [2]"], StyleEdit(replace=("INST-05",)), PRESETS)
    assert load_mapping(meta / "style_mapping.json") == after | {"jazz [2]": ["INST-05"]}
    before = (meta / "style_mapping.json").read_text()
    assign_styles(meta, ["rain-1"], StyleEdit(add=("CORE-05",)), PRESETS, dry_run=True)
    assert (meta / "style_mapping.json").read_text() == before


@pytest.mark.parametrize(
    ("tracks", "edit", "message"),
    [
        (["rain-1"], StyleEdit(add=("CORE-8",)), "no style 'CORE-8'; the nearest is 'CORE-0"),
        (["rain-1", "rain-3"], StyleEdit(add=("CORE-05",)), "'rain-3'; the nearest is 'rain-"),
        (["rain-2"], StyleEdit(remove=("CORE-01",)), "rain-2 would be left without a style"),
        (["rain-2"], StyleEdit(), "nothing to do"),
    ],
)
def test_an_edit_that_cannot_be_changes_nothing(meta, tracks, edit, message):
    before = (meta / "style_mapping.json").read_text()
    with pytest.raises((DatasetError, RequestError), match=message):
        assign_styles(meta, tracks, edit, PRESETS)
    assert (meta / "style_mapping.json").read_text() == before


def test_a_new_track_is_known_by_its_audio(meta, tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    (audio / "new.wav").write_bytes(b"")
    edit = StyleEdit(replace=("CORE-03",))
    with pytest.raises(DatasetError, match="name the folder with --audio"):
        assign_styles(meta, ["new"], edit, PRESETS)
    assert assign_styles(meta, ["new"], edit, PRESETS, audio_dir=audio) == {"new": ["CORE-03"]}
    with pytest.raises(DatasetError, match="'neu'; the nearest is 'new'"):
        score_tracks(meta, ["neu"], QualityScore(score=1, date=DAY), audio_dir=audio)


def test_a_broken_mapping_is_said_by_line_and_left_alone(meta):
    path = meta / "style_mapping.json"
    path.write_text('{\n "a": ["CORE-01"],\n "b": 5\n}')
    with pytest.raises(DatasetError, match=r"style_mapping\.json:3:7: b should have a list"):
        assign_styles(meta, ["a"], StyleEdit(add=("CORE-02",)), PRESETS)
    assert '"b": 5' in path.read_text()


def test_scores(meta):
    rows = score_tracks(meta, ["rain-*"], QualityScore(score=82.5, verified=True, date=DAY))
    assert rows["rain-1"] == {"score": 82.5, "verified": True, "date": "2026-01-31"}
    score_tracks(meta, ["rain-2"], QualityScore(score=10, date=DAY))
    document = json.loads((meta / "quality_scores.json").read_text())
    assert document == {
        "rain-1": {"score": 82.5, "verified": True, "date": "2026-01-31"},
        "rain-2": {"score": 10.0, "verified": False, "date": "2026-01-31"},
    }
    assert load_scores(meta)["rain-2"].score == 10
    (meta / "quality_scores.json").write_text('{\n "a": {"score": 101, "date": "2026-01-01"}}')
    with pytest.raises(DatasetError, match=r"quality_scores\.json:2:17: a\.score is 101, but"):
        load_scores(meta)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ["CORE-01",\n "CORE-1"]}', r"m\.json:2:2: there is no style 'CORE-1'; the nearest"),
        ('{"a": "CORE-1"}', r"m\.json:1:7: there is no style 'CORE-1'"),
        ('{"a": ["CORE-01"],\n "bb": ["CORE-01"]}', r"m\.json:2:2: the track 'bb' is not in the"),
        ('{"a": ["CORE-01"],\n "a": ["CORE-02"]}', r"m\.json:2:2: 'a' stands here for the second"),
        ('{"a": ["CORE-01", "CORE-01"]}', r"m\.json:1:19: a has the style CORE-01 twice"),
        ('{"a": [5]}', r"m\.json:1:8: 5 should be a style id"),
        ('{"a": []}', r"m\.json:1:7: a should have a list"),
        ("[]", r"m\.json:1:1: \{\"track id\""),
    ],
)
def test_a_wrong_mapping_is_said_by_line(tmp_path, text, message):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_mapping(path, PRESETS, ["a", "b"])


_WORKER = """
import sys
from pathlib import Path
from luthier.music.dataset.style_edits import StyleEdit, assign_styles
from luthier.music.dataset.styles import load_presets
presets = load_presets()
for style in sys.argv[2:]:
    assign_styles(Path(sys.argv[1]), ["rain-1"], StyleEdit(add=(style,)), presets)
"""


def test_two_processes_that_assign_at_once_lose_nothing(meta):
    halves = [sorted(PRESETS)[:12], sorted(PRESETS)[12:24]]
    workers = [subprocess.Popen([sys.executable, "-c", _WORKER, meta, *half]) for half in halves]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    styles = load_mapping(meta / "style_mapping.json")["rain-1"]
    assert styles[:2] == ["CORE-01", "SEASON-06"]
    assert set(styles) == {"SEASON-06", *halves[0], *halves[1]}
    assert len(styles) == len(set(styles))
