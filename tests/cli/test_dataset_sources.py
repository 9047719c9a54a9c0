"""`luthier dataset` on the command line: sources, build, check, import-json, export-json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luthier.cli.main import main
from luthier.dataset.sources import load_sources
from luthier.files import read_json, write_json
from prepared import prepare, source


@pytest.fixture
def data(tmp_path):
    return prepare(tmp_path)


def add(meta: Path, *more: object) -> int:
    words = ("dataset", "sources", "add", "--metadata", meta, "--provider", "Ann")
    words += ("--type", "creative_commons", "--license", "CC-BY-4.0", "--date", "2025-01-01")
    return main([str(word) for word in (*words, *more)])


def check(data: Path, *more: object) -> int:
    words = ("dataset", "sources", "check", "--metadata", data.parent / "meta", *more)
    return main([str(word) for word in words])


def test_add(tmp_path, capsys):
    meta = tmp_path / "meta"
    said = ("--verified-by", "Bob", "--evidence", "https://example.org", "--cc-flags", "by")
    given = ("--source-id", "ann", "--tracks", "a, b", "--ai-training", "yes", *said)
    more = ("--attribution", "Ann", "--notes", "by mail", "--cost", "3.5")
    assert add(meta, *given, *more, "--dry-run") == 0
    assert (
        "would be added: ann, 2 tracks, CC-BY-4.0, AI training allowed" in capsys.readouterr().out
    )
    assert not meta.exists()
    assert add(meta, *given, *more, "--json") == 0
    assert json.loads(capsys.readouterr().out)["tracks"] == 2
    (record,) = load_sources(meta / "sources.json")
    assert (record.track_ids, record.ai_training_allowed) == (("a", "b"), True)
    assert (record.verified_by, record.cost, record.notes) == ("Bob", 3.5, "by mail")
    assert record.flags == ("BY",)
    assert add(meta, *given) == 1
    assert "has the source 'ann' already" in capsys.readouterr().err
    assert add(meta, *given, "--replace") == 0


def test_what_nobody_said_is_not_permission(tmp_path, capsys):
    assert add(tmp_path, "--source-id", "ann", "--tracks", "a") == 0
    assert "not stated, which counts as no" in capsys.readouterr().out
    (record,) = load_sources(tmp_path / "sources.json")
    assert record.ai_training_allowed is None


def test_add_refuses_in_sentences(data, capsys):
    meta = data.parent / "new"
    named = ("--source-id", "x")
    assert add(meta, *named) == 2
    assert "--tracks a,b or --audio-dir" in capsys.readouterr().err
    assert add(meta, *named, "--tracks", "t0,t11", "--audio-dir", data) == 1
    assert "there is no track 't11'; the nearest is 't1'" in capsys.readouterr().err
    assert add(meta, *named, "--tracks", "t0", "--date", "2999-01-01") == 1
    assert "lies in the future" in capsys.readouterr().err
    assert add(meta, *named, "--tracks", "t0", "--type", "found") == 1
    assert "source_type: Input should be" in capsys.readouterr().err
    assert add(meta, *named, "--tracks", "t0", "--type", "commissioned") == 1
    assert "needs its cost" in capsys.readouterr().err
    assert not meta.exists()


def test_all_tracks_of_a_folder(data):
    assert add(data.parent / "new", "--source-id", "x", "--audio-dir", data) == 0
    (record,) = load_sources(data.parent / "new" / "sources.json")
    assert record.track_ids == ("t0", "t1", "t2", "t3", "t4")


def test_check_exits_0_1_or_3(data, capsys):
    assert check(data, "--audio-dir", data) == 0
    assert "1 sources: every track may be trained on." in capsys.readouterr().out
    path = data.parent / "meta" / "sources.json"
    write_json(path, [source(track_ids=["t0", "t1", "t2", "t3", "t4", "gone"])])
    assert check(data, "--audio-dir", data) == 1
    assert "names the track 'gone'" in capsys.readouterr().out
    write_json(path, [source(ai_training_allowed=False, track_ids=["t0"])])
    assert check(data, "--audio-dir", data, "--json") == 3
    value = json.loads(capsys.readouterr().out)
    assert [row["track_id"] for row in value["refused"]] == ["t0", "t1", "t2", "t3", "t4"]
    assert check(data) == 3
    assert "refused: t0 (own does not allow AI training)" in capsys.readouterr().out


def test_import_csv(data, tmp_path, capsys):
    path, meta = tmp_path / "rights.csv", tmp_path / "new"
    head = "source_id,track_ids,source_type,provider,license_type,date_acquired,ai_training_allowed"
    path.write_text(f"{head}\nann,t0;t1,creative_commons,Ann,CC0-1.0,2025-01-01,yes\n")
    words = ["dataset", "sources", "import-csv", str(path), "--metadata", str(meta)]
    assert main([*words, "--dry-run"]) == 0
    assert not meta.exists()
    assert main([*words, "--audio-dir", str(data)]) == 0
    assert "added: ann, 2 tracks, CC0-1.0, AI training allowed" in capsys.readouterr().out
    path.write_text(path.read_text() + "bob,t1,creative_commons,Bob,CC0-1.0,2025-13-01,yes\n")
    assert main([*words, "--replace"]) == 1
    assert "rights.csv:3: date_acquired" in capsys.readouterr().err
    assert len(load_sources(meta / "sources.json")) == 1


def test_build_and_check(data, capsys):
    out, meta = data.parent / "set", data.parent / "meta"
    words = ["dataset", "build", str(data), "--metadata", str(meta), "--out", str(out)]
    assert main([*words, "--dry-run"]) == 0
    assert "would go" in capsys.readouterr().out
    assert not out.exists()
    assert main([*words, "--repeat-count", "2"]) == 0
    assert main(["dataset", "check", str(out)]) == 0
    write_json(meta / "sources.json", [])
    assert main(["dataset", "check", str(out), "--metadata", str(meta), "--json"]) == 1
    lines = capsys.readouterr().out
    assert len(json.loads(lines[lines.index("{") :])["problems"]) == 5
    assert main([*words, "--json"]) == 3
    assert len(json.loads(capsys.readouterr().out)["refused"]) == 5


def test_json_of_acestep_goes_out_and_comes_in(data, capsys):
    root = data.parent
    words = ["dataset", "build", str(data), "--metadata", str(root / "meta")]
    assert main([*words, "--out", str(root / "set")]) == 0
    export = ["dataset", "export-json", str(root / "set"), "--out", str(root / "x" / "out.json")]
    assert main([*export, "--dry-run"]) == 0
    assert not (root / "x").exists()
    assert main(export) == 0
    assert len(read_json(root / "x" / "out.json")["samples"]) == 4
    assert main([*export, "--split", "all", "--name", "mine"]) == 0
    value = read_json(root / "x" / "out.json")
    assert (value["metadata"]["name"], len(value["samples"])) == ("mine", 5)
    taken = ["dataset", "import-json", str(root / "x" / "out.json"), "--out", str(root / "in")]
    assert main([*taken, "--dry-run"]) == 0
    assert not (root / "in").exists()
    assert main([*taken, "--json"]) == 0
    assert (root / "in" / "t4_prompt.txt").read_text() == (data / "t4_prompt.txt").read_text()
    assert main(taken) == 2
    assert "not empty" in capsys.readouterr().err
