"""The contract of `scripts/convert_dataset.py`: every flag, exit code and JSON key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from luthier import __version__
from luthier.cli.scripts.convert_dataset import main
from luthier.files import read_json, write_json
from prepared import prepare, source, write_track

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert_dataset.py"
KEYS = {
    "train_samples",
    "validation_samples",
    "total_duration_hours",
    "dataset_hash",
    "output_path",
}


@pytest.fixture
def data(tmp_path):
    return prepare(tmp_path)


def flags(data: Path, *more: object) -> list[str]:
    root = data.parent
    words = ("--data-dir", data, "--metadata-dir", root / "meta", "--output-dir", root / "set")
    return [str(word) for word in (*words, *more)]


def script(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def converted(capsys, *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_script_converts(data):
    done = script(*flags(data), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) >= KEYS | {"unique_tracks"}
    assert (found["train_samples"], found["validation_samples"]) == (800, 1)
    assert found["unique_tracks"] == 5
    assert found["total_duration_hours"] == pytest.approx(150 / 3600, abs=1e-4)
    assert len(found["dataset_hash"]) == 64
    assert found["output_path"] == str(data.parent / "set")
    rows = datasets.load_from_disk(str(data.parent / "set" / "train"))
    assert len(rows) == 800


def test_the_script_refuses_without_a_licence(data):
    write_json(data.parent / "meta" / "sources.json", [source(track_ids=["t0", "t1"])])
    done = script(*flags(data), "--json")
    assert done.returncode == 3
    value = json.loads(done.stdout)
    assert value["kind"] == "LicenceError"
    assert [row["track_id"] for row in value["refused"]] == ["t2", "t3", "t4"]
    assert {row["reason"] for row in value["refused"]} == {"no source record"}
    assert done.stderr.startswith("convert_dataset.py: 3 tracks may not be trained on")
    assert all(f"  {name} (no source record)" in done.stderr for name in ("t2", "t3", "t4"))
    assert not (data.parent / "set").exists()


def test_help_and_version():
    assert os.access(SCRIPT, os.X_OK)
    done = script("--help")
    assert done.returncode == 0
    named = ("--data-dir", "--metadata-dir", "--output-dir", "--validation-split")
    more = ("--repeat-count", "--repeat-validation", "--seed", "--version", "--verbose", "--quiet")
    for flag in (*named, *more, "--json", "--dry-run", "-h", "-v", "-q"):
        assert flag in done.stdout
    assert __version__ in script("--version").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repeat-count", "many"], "argument --repeat-count: invalid int value: 'many'"),
        (["--repeats", "3"], "unrecognized arguments: --repeats 3"),
        (["--repeat", "3"], "unrecognized arguments"),  # flags are not abbreviated
        (["--repeat-count", "0"], "repeat count is 1 or more, not 0"),
        (["--validation-split", "0.8"], "share from 0 to 0.5, not 0.8"),
        (["--validation-split", "nan"], "share from 0 to 0.5"),
        (["--data-dir", "/none"], "the data folder /none does not exist"),
        (["--metadata-dir", "/none"], "the metadata folder /none does not exist"),
        (["--output-dir", str(SCRIPT)], "is a file"),
    ],
)
def test_fatal_errors_exit_1_with_a_sentence(data, capsys, words, message):
    try:
        code = main([*flags(data), *words, "--json"])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("convert_dataset.py: ")
    assert "Traceback" not in printed.err
    assert message in json.loads(printed.out)["error"]
    assert not (data.parent / "set").exists()


def test_damaged_metadata_exits_1(data, capsys):
    (data.parent / "meta" / "sources.json").write_text("[{]")
    assert main(flags(data)) == 1
    assert "sources.json:1:3" in capsys.readouterr().err
    assert main([*flags(data), "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err  # --verbose says where it came from


def test_repeats_and_split_do_what_they_say(data, capsys):
    words = flags(data, "--validation-split", "0.4", "--repeat-count", "7")
    found = converted(capsys, *words)
    assert (found["train_samples"], found["validation_samples"]) == (21, 2)
    found = converted(capsys, *words, "--repeat-validation")
    assert (found["train_samples"], found["validation_samples"]) == (21, 14)
    assert converted(capsys, *words, "--validation-split", "0")["validation_samples"] == 0


def test_the_seed_decides_the_split_and_nothing_else_does(data, capsys):
    def split(seed: int) -> tuple[str, list[str]]:
        found = converted(capsys, *flags(data, "--seed", seed))
        rows = datasets.load_from_disk(str(data.parent / "set" / "validation"))
        return found["dataset_hash"], rows["keys"][:]

    first = split(42)
    assert converted(capsys, *flags(data))["dataset_hash"] == first[0]
    assert any(split(seed) != first for seed in range(3))


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_dry_run_checks_everything_and_writes_nothing(data, capsys, where):
    words = flags(data)
    words = (
        ["--dry-run", "--json", *words] if where == "before" else [*words, "--dry-run", "--json"]
    )
    assert main(words) == 0
    planned = json.loads(capsys.readouterr().out)
    assert not (data.parent / "set").exists()
    assert planned == converted(capsys, *flags(data))
    (data / "t1_prompt.txt").unlink()
    assert main(words) == 1
    write_json(data.parent / "meta" / "sources.json", [])
    assert main(words) == 3


def test_what_is_printed(data, capsys):
    write_track(data, "t2", 2, needs_review=True)
    assert main(flags(data)) == 0
    out = capsys.readouterr().out
    assert "5 tracks (2.5 minutes): 800 training samples, 1 validation samples" in out
    assert "warning: 1 tracks have a style that wants review: t2" in out
    assert "t0: lofi hip hop" not in out
    assert main([*flags(data), "--verbose"]) == 0
    assert "t0: lofi hip hop, chill, piano, 80 bpm" in capsys.readouterr().out
    assert main([*flags(data), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_folders_come_from_the_environment(data, tmp_path, monkeypatch, capsys):
    base = tmp_path / "base"
    base.mkdir()
    data.rename(base / "processed")
    (tmp_path / "meta").rename(base / "metadata")
    monkeypatch.setenv("LOFI_DATA_DIR", str(base))
    config = tmp_path / "config"
    monkeypatch.setenv("LOFI_CONFIG_DIR", str(config))
    assert converted(capsys)["output_path"] == str(base / "dataset")
    write_json(base / "metadata" / "style_mapping.json", {"t0": ["MINE-01"]})
    assert main([]) == 1
    assert "no style 'MINE-01'" in capsys.readouterr().err
    from luthier.music.dataset.styles import BUILT_IN

    presets = read_json(BUILT_IN)
    rows = presets["presets"] if isinstance(presets, dict) else presets
    own = next(row for row in rows if row["style_id"] == "CORE-01") | {"style_id": "MINE-01"}
    write_json(config / "style_presets.json", {"presets": [*rows, own]})
    assert converted(capsys)["unique_tracks"] == 5


def test_an_output_folder_of_something_else_is_kept(data, capsys):
    (data.parent / "set").mkdir()
    (data.parent / "set" / "thesis.txt").write_text("precious")
    assert main(flags(data)) == 1
    assert "holds other files (thesis.txt)" in capsys.readouterr().err
    assert [p.name for p in (data.parent / "set").iterdir()] == ["thesis.txt"]
