from __future__ import annotations

import json

import pytest

from luthier.cli import dataset_styles
from luthier.cli.common import CommandParser
from luthier.errors import DatasetError, RequestError


@pytest.fixture
def meta(tmp_path):
    (tmp_path / "style_mapping.json").write_text('{"a": ["CORE-01"], "b": ["THEME-03"]}')
    return tmp_path


def run(*words):
    parser = CommandParser()
    dataset_styles.add_actions(parser.add_subparsers(dest="action"))
    return dataset_styles.run(parser.parse_args([str(word) for word in words]))


def test_the_distribution_as_table_and_json(meta, capsys):
    assert run("styles", meta) == 0
    table = capsys.readouterr().out
    assert "CORE-01    Classic Lofi Hip Hop            1" in table
    assert "36 styles have no track" in table
    assert run("styles", meta, "--json", "--target", "core=0.5", "--target", "thematic=0.5") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tracks"] == 2
    assert [row["share"] for row in report["categories"]] == [0.5, 0, 0.5, 0, 0]
    assert [row["lacking"] for row in report["categories"]] == [0, 0, 0, 0, 0]


def test_assign_and_score(meta, capsys):
    assert run("assign", meta, "a", "b", "--add", "INST-01", "--remove", "THEME-03") == 0
    assert "b: INST-01" in capsys.readouterr().out
    assert run("assign", meta, "a", "--set", "CORE-02", "--dry-run", "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned == {"styles": {"a": ["CORE-02"]}, "written": False}
    mapping = json.loads((meta / "style_mapping.json").read_text())
    assert mapping == {"a": ["CORE-01", "INST-01"], "b": ["INST-01"]}

    score = ("score", meta, "a", "--score", 88, "--verified", "--date", "2026-01-31")
    assert run(*score, "--dry-run", "-q") == 0
    assert not (meta / "quality_scores.json").exists()
    assert run(*score, "--json") == 0
    row = {"score": 88.0, "verified": True, "date": "2026-01-31"}
    assert json.loads(capsys.readouterr().out) == {"scores": {"a": row}, "written": True}
    assert json.loads((meta / "quality_scores.json").read_text()) == {"a": row}
    assert run("styles", meta) == 0
    assert "2 tracks; 1 scored by people, 88 of 100 on average" in capsys.readouterr().out


def test_wrong_words_are_sentences(meta):
    with pytest.raises(DatasetError, match="no style 'CORE-99'; the nearest is 'CORE-0"):
        run("assign", meta, "a", "--add", "CORE-99")
    with pytest.raises(RequestError, match="from 0 to 100, not 101"):
        run("score", meta, "a", "--score", 101)
    with pytest.raises(RequestError, match="such as 2026-01-31, not 'May'"):
        run("score", meta, "a", "--score", 1, "--date", "May")
    with pytest.raises(DatasetError, match="no track is called 'c'"):
        run("score", meta, "c", "--score", 1)
