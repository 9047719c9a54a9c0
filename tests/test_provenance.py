"""From a result back to its sources."""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import pytest

from luthier.cli import trace as trace_command
from luthier.errors import PathError
from luthier.files import sha256_of, write_json, write_text
from luthier.provenance import input_record, library_versions, run_path, trace, write_run


def chain(root: Path) -> Path:
    """recordings → curated folder → model folder → a clip, each with its record."""
    for name in ("a", "b"):
        write_text(root / "recordings" / f"{name}.wav", name)
        write_text(root / "curated" / f"{name}.flac", name)
    recordings = sorted((root / "recordings").iterdir())
    write_run(root / "curated", stage="curate", inputs=recordings, licences=["CC0-1.0"])
    write_text(root / "model" / "weights", "w")
    write_run(root / "model", stage="train", inputs=[root / "curated"], seeds={"training": 42})
    write_text(root / "out" / "x.wav", "x")
    write_run(root / "out" / "x.wav", stage="generate", inputs=[root / "model"], seeds={"audio": 7})
    return root / "out" / "x.wav"


def shown(capsys: pytest.CaptureFixture[str], file: Path, **flags: bool) -> str:
    args = {"json": False, "quiet": False, "verbose": False, "dry_run": False, "no_verify": False}
    assert trace_command.run(argparse.Namespace(file=file, **(args | flags))) == 0
    return capsys.readouterr().out


def test_the_record_says_what_made_it(tmp_path: Path) -> None:
    write_text(tmp_path / "in.txt", "in")
    write_text(tmp_path / "out.txt", "out")
    path = write_run(
        tmp_path / "out.txt",
        stage="test",
        inputs=[tmp_path / "in.txt"],
        config={"steps": 3},
        licences=["CC-BY-4.0", "CC0-1.0", "CC0-1.0"],
    )
    assert path == tmp_path / "out.txt.run.json" == run_path(tmp_path / "out.txt")
    record = json.loads(path.read_text())
    assert record["stage"] == "test"
    assert record["config"] == {"steps": 3}
    assert record["licences"] == ["CC-BY-4.0", "CC0-1.0"]
    assert record["inputs"] == [input_record(tmp_path / "in.txt")]
    assert record["versions"] == library_versions()
    assert {"luthier", "python", "numpy"} <= set(record["versions"])


def test_an_input_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    write_text(tmp_path / "out.txt", "out")
    with pytest.raises(PathError, match=r"in\.txt does not exist"):
        write_run(tmp_path / "out.txt", stage="test", inputs=[tmp_path / "in.txt"])
    assert not run_path(tmp_path / "out.txt").exists()


def test_a_clip_leads_back_to_the_recordings(tmp_path: Path) -> None:
    rows = trace(chain(tmp_path))
    assert [(r.depth, r.path.name, r.state) for r in rows] == [
        (0, "x.wav", ""),
        (1, "model", "same"),
        (2, "curated", "same"),
        (3, "a.wav", "same"),
        (3, "b.wav", "same"),
    ]
    assert [r.record.get("stage") for r in rows] == ["generate", "train", "curate", None, None]


def test_a_file_has_the_record_of_its_folder(tmp_path: Path) -> None:
    chain(tmp_path)
    rows = trace(tmp_path / "curated" / "a.flac")
    assert rows[0].record["stage"] == "curate"
    assert [r.path.name for r in rows] == ["a.flac", "a.wav", "b.wav"]


def test_what_changed_or_went_is_told(tmp_path: Path) -> None:
    clip = chain(tmp_path)
    (tmp_path / "recordings" / "a.wav").write_text("another")
    (tmp_path / "recordings" / "b.wav").unlink()
    states = {r.path.name: r.state for r in trace(clip)}
    assert states["a.wav"] == "changed"
    assert states["b.wav"] == "missing"
    unverified = {r.path.name: r.state for r in trace(clip, verify=False)}
    assert unverified["a.wav"] == ""
    assert unverified["b.wav"] == "missing"


def test_shared_inputs_and_circles_end(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.txt" for n in range(24)]
    for path in paths:
        write_text(path, path.name)
    for previous, path in pairwise(paths):
        # The same input twice: followed each time, 24 levels would be 16 million rows.
        write_run(path, stage="step", inputs=[previous, previous])
    write_run(paths[0], stage="step", inputs=[paths[-1]])
    rows = trace(paths[-1])
    assert len(rows) == 2 * (len(paths) - 1) + 2
    assert rows[-1].state == "shown"


@pytest.mark.parametrize("content", ["[]", "{}", '{"inputs": [{"path": 1}]}', '{"inputs": {}}'])
def test_a_torn_record_is_a_sentence(tmp_path: Path, content: str) -> None:
    write_text(tmp_path / "x.wav", "x")
    write_text(tmp_path / "x.wav.run.json", content)
    with pytest.raises(PathError, match="not a record of luthier"):
        trace(tmp_path / "x.wav")


def test_nothing_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PathError, match="does not exist"):
        trace(tmp_path / "x.wav")


def test_the_tree_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = chain(tmp_path)
    (tmp_path / "recordings" / "b.wav").unlink()
    lines = shown(capsys, clip).splitlines()
    assert lines[0].startswith(f"{clip}   generate · ")
    assert "audio seed 7" in lines[0]
    assert lines[1].startswith("└── ")
    assert "training seed 42" in lines[1]
    assert lines[2].startswith("    └── ")
    assert lines[3].startswith("        ├── recordings/a.wav   source")
    assert lines[4] == "        └── recordings/b.wav   source · MISSING"
    assert lines[5] == "licences: CC0-1.0"


def test_the_tree_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads(shown(capsys, chain(tmp_path), json=True))
    assert [row["depth"] for row in value["rows"]] == [0, 1, 2, 3, 3]
    assert value["rows"][0]["record"]["seeds"] == {"audio": 7}


def test_a_file_from_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "x.json", {})
    assert "no record lies beside it" in shown(capsys, tmp_path / "x.json")


def test_a_folder_of_graphs_is_known_by_its_manifest(tmp_path: Path) -> None:
    write_text(tmp_path / "onnx" / "manifest.json", "{}")
    write_text(tmp_path / "onnx" / "run.json", '{"inputs": []}')
    write_text(tmp_path / "x.wav", "x")
    pinned = input_record(tmp_path / "onnx", sha256_of(tmp_path / "onnx" / "manifest.json"))
    write_run(tmp_path / "x.wav", stage="generate", inputs=[pinned])
    assert [r.state for r in trace(tmp_path / "x.wav")] == ["", "same"]
    write_text(tmp_path / "onnx" / "manifest.json", '{"name": "another"}')
    assert [r.state for r in trace(tmp_path / "x.wav")] == ["", "changed"]


def test_a_folder_without_a_record_is_known_by_all_its_files(tmp_path: Path) -> None:
    write_text(tmp_path / "model" / "manifest.json", "{}")
    write_text(tmp_path / "model" / "weights", "w")
    write_text(tmp_path / "x.wav", "x")
    write_run(tmp_path / "x.wav", stage="generate", inputs=[tmp_path / "model"])
    assert [r.state for r in trace(tmp_path / "x.wav")] == ["", "same"]
    write_text(tmp_path / "model" / "weights", "v")
    assert [r.state for r in trace(tmp_path / "x.wav")] == ["", "changed"]


def test_what_ships_together_is_found_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model" / "torch").mkdir(parents=True)
    (tmp_path / "model" / "torch" / "weights").write_text("1")
    graphs = tmp_path / "model" / "onnx"
    graphs.mkdir()
    source = input_record(tmp_path / "model" / "torch") | {"path": "../torch"}
    write_run(graphs, stage="export", inputs=[source])
    monkeypatch.chdir("/")
    assert [(row.path.name, row.state) for row in trace(graphs)] == [
        ("onnx", ""),
        ("torch", "same"),
    ]
