"""No command replaces, removes or changes what it did not make: every verb and script that writes,
from one table, against every kind of place that is not its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from luthier.cli.main import COMMANDS, build_parser, main
from writers import (
    DATASET_EDITS,
    DATASET_READS,
    READ_ONLY,
    SCRIPTS,
    WRITERS,
    Writer,
    make_inputs,
    snapshot,
)

REPLACED = [w for w in WRITERS if w.kind == "replaced"]
GROWING = [w for w in WRITERS if w.kind == "grows"]
FILES = [w for w in WRITERS if w.kind == "file"]
LETTER = "\N{MUSICAL SYMBOL G CLEF}"  # four bytes in UTF-8


def named(writer: Writer) -> str:
    return writer.name


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return make_inputs(tmp_path / "in")


@pytest.fixture(autouse=True)
def _logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOFI_CHECKPOINT_DIR", str(tmp_path))


def run(writer: Writer, inputs: Path, out: Path) -> int:
    words = [str(word) for word in writer.words(inputs, out)]
    try:
        return writer.main([*words, "--quiet"])
    except SystemExit as error:  # of a parser
        return int(error.code or 0)


def refused(
    writer: Writer, inputs: Path, out: Path, capsys: pytest.CaptureFixture[str], code: int | None
) -> str:
    """Run a command that must be refused, with everything as it was; return its sentence."""
    root = inputs.parent
    before = snapshot(root)
    found = run(writer, inputs, out)
    said = capsys.readouterr().err
    assert snapshot(root) == before, writer.name
    assert "Traceback" not in said
    assert said.count("\n") == 1, said
    assert found == (writer.code if code is None else code), said
    return said


def fill(folder: Path) -> Path:
    """Recordings of somebody else, in places that luthier uses too."""
    for name in ("mine.wav", "recordings/mine.wav", "clips/mine.wav", "train/mine.wav"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a recording")
    (folder / "README.md").write_text("my notes")
    return folder


def test_every_command_that_writes_has_a_row() -> None:
    named_verbs = {w.name.split()[0] for w in WRITERS}
    assert set(COMMANDS) - READ_ONLY <= named_verbs
    actions = build_parser("dataset")._subparsers
    assert actions is not None
    (group,) = actions._group_actions
    rows = {w.name.split()[1] for w in WRITERS if w.name.startswith("dataset ")}
    assert set(group.choices or ()) == rows | DATASET_READS | DATASET_EDITS
    scripts = Path(__file__).parents[1] / "scripts"
    assert {p.name for p in scripts.iterdir() if p.is_file()} == set(SCRIPTS)
    assert set(SCRIPTS) <= named_verbs


@pytest.mark.parametrize("writer", REPLACED, ids=named)
def test_a_folder_of_somebody_else(
    writer: Writer, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(writer, inputs, fill(tmp_path / "out"), capsys, None)
    assert str(tmp_path / "out") in said


@pytest.mark.parametrize("writer", REPLACED, ids=named)
def test_a_link_to_such_a_folder(
    writer: Writer, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "real")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    refused(writer, inputs, tmp_path / "out", capsys, None)


@pytest.mark.parametrize("writer", REPLACED, ids=named)
def test_the_result_of_another_stage(
    writer: Writer, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("export", "merge", "dataset", "demo", "curate"):
        out = tmp_path / stage
        out.mkdir()
        (out / "run.json").write_text(json.dumps({"stage": stage, "inputs": [], "files": ["x"]}))
        (out / "x").write_text("a result")
        if stage != writer.stage:
            refused(writer, inputs, out, capsys, None)


@pytest.mark.parametrize("writer", [w for w in REPLACED if w.stage], ids=named)
def test_a_recording_in_an_earlier_result(
    writer: Writer, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    place = out / ("onnx" if writer.stage == "demo" else ".")
    for folder, stage in {out: writer.stage, place: "export"}.items():
        if folder == out or writer.stage == "demo":
            folder.mkdir(parents=True, exist_ok=True)
            record = {"stage": stage, "inputs": [], "files": ["old.bin"]}
            (folder / "run.json").write_text(json.dumps(record))
    (place / "old.bin").write_bytes(b"ours")
    (place / "take 7.wav").write_bytes(b"a recording")
    said = refused(writer, inputs, out, capsys, None)
    assert "take 7.wav" in said


@pytest.mark.parametrize("through_link", [False, True])
@pytest.mark.parametrize("writer", REPLACED, ids=named)
def test_what_is_read_its_parents_and_what_lies_in_it(
    writer: Writer,
    inputs: Path,
    tmp_path: Path,
    through_link: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = [inputs / name for name in writer.inputs] or [inputs]
    inside = inputs / writer.inputs[0] / "sub" if writer.inputs else inputs
    for place in [*places, inputs, tmp_path, inside]:
        if through_link:
            link = tmp_path.parent / f"{tmp_path.name}-link"
            link.unlink(missing_ok=True)
            link.symlink_to(place)
            refused(writer, inputs, link, capsys, None)
        else:
            refused(writer, inputs, place, capsys, None)


@pytest.mark.parametrize("writer", REPLACED, ids=named)
def test_the_working_folder(
    writer: Writer,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if writer.name != "demo":  # which replaces parts of its folder, and never the folder
        refused(writer, inputs, Path("."), capsys, None)
    fill(here)
    refused(writer, inputs, Path("."), capsys, None)


@pytest.mark.parametrize("writer", REPLACED, ids=named)
def test_where_a_disk_is_mounted(
    writer: Writer, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mounts = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
    place = next(m for m in mounts if m.is_dir() and m != Path("/"))
    assert os.path.ismount(place)
    refused(writer, inputs, place, capsys, None)


@pytest.mark.parametrize("writer", GROWING, ids=named)
def test_a_name_that_a_growing_folder_needs_is_taken(
    writer: Writer, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = fill(tmp_path / "out")
    (out / writer.taken).parent.mkdir(exist_ok=True)
    (out / writer.taken).write_bytes((inputs / "tracks" / "loud.wav").read_bytes())
    said = refused(writer, inputs, out, capsys, None)
    assert str(out) in said


@pytest.mark.parametrize("writer", [w for w in GROWING if "evaluat" not in w.name], ids=named)
def test_a_growing_folder_is_no_other_result(
    writer: Writer, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if writer.name in ("compare", "validate_checkpoint.py"):
        pytest.skip("clips go beside whatever lies there, under names that were free")
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text(json.dumps({"stage": "export", "inputs": []}))
    refused(writer, inputs, out, capsys, None)


@pytest.mark.parametrize("writer", [w for w in GROWING if w.inputs], ids=named)
def test_a_growing_folder_lies_in_nothing_that_is_read(
    writer: Writer,
    inputs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in writer.inputs:
        for place in (inputs / name, inputs / name / "run"):
            monkeypatch.setenv("LOFI_CHECKPOINT_DIR", str(place.parent))
            refused(writer, inputs, place, capsys, None)


@pytest.mark.parametrize("name", ["curate", "lofi_audio_processor.py process", "prompts"])
def test_a_growing_folder_touches_nothing_of_others(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    writer = next(w for w in WRITERS if w.name == name)
    out = fill(tmp_path / "out")
    (out / "calm.wav").write_bytes(b"theirs")
    (out / "loud_prompt.txt").write_text("my own words\n")
    before = snapshot(out)
    for _ in range(2):
        assert run(writer, inputs, out) == 0
    assert before.items() <= snapshot(out).items()


@pytest.mark.parametrize("writer", FILES, ids=named)
def test_a_file_that_is_read_or_is_not_ours(
    writer: Writer, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in writer.inputs:
        if Path(name).suffix == writer.suffix:
            refused(writer, inputs, inputs / name, capsys, None)
        link = tmp_path / f"link{writer.suffix}"
        link.unlink(missing_ok=True)
        link.symlink_to(inputs / name)
        refused(writer, inputs, link, capsys, None)
    theirs = tmp_path / f"theirs{writer.suffix}"
    theirs.write_text("precious")
    said = refused(writer, inputs, theirs, capsys, None)
    assert str(theirs) in said


@pytest.mark.parametrize("letter", ["x", LETTER])
@pytest.mark.parametrize("writer", WRITERS, ids=named)
def test_a_name_that_the_system_cannot_hold(
    writer: Writer,
    letter: str,
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    room = 256 - len(writer.suffix)
    name = letter * -(-room // len(letter.encode())) + writer.suffix
    said = refused(writer, inputs, tmp_path / name, capsys, None)
    assert "too long" in said


@pytest.mark.parametrize("pieces", ["1", "2"])
def test_a_name_that_leaves_no_room_for_the_record(
    pieces: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = next(w for w in WRITERS if w.name == "generate")
    longest = 255 - len(".wav.run.json") - (2 if pieces == "2" else 0)
    words = [str(w) for w in writer.words(inputs, tmp_path / f"{'x' * (longest + 1)}.wav")]
    assert writer.main([*words, "--batch", pieces]) == 2
    assert "room for .run.json" in capsys.readouterr().err
    assert not list(tmp_path.glob("x*"))
    words = [str(w) for w in writer.words(inputs, tmp_path / f"{'x' * longest}.wav")]
    assert writer.main([*words, "--batch", pieces, "--dry-run"]) == 0


@pytest.mark.parametrize("writer", WRITERS, ids=named)
def test_a_place_below_a_file(
    writer: Writer,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if writer.name in ("export", "export_onnx.py", "dataset export-json"):
        pytest.skip("the stand-ins are refused first; test_bad_input has real ones")
    (tmp_path / "file").write_text("precious")
    monkeypatch.setenv("LOFI_CHECKPOINT_DIR", str(tmp_path / "file"))
    before = snapshot(tmp_path)
    code = run(writer, inputs, tmp_path / "file" / f"out{writer.suffix}")
    said = capsys.readouterr().err
    assert code in (1, 2, 3), said
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("writer", [*REPLACED, *GROWING], ids=named)
def test_a_folder_that_nobody_may_write(
    writer: Writer, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if writer.name in ("export", "export_onnx.py"):
        pytest.skip("the stand-ins are refused first; test_bad_input has real ones")
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount") or "mount"
    command = [mount, "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        before = snapshot(tmp_path)
        if writer.name == "run_training.sh":
            os.environ["LOFI_CHECKPOINT_DIR"] = str(place)  # monkeypatched by the fixture
        code = run(writer, inputs, place / "out")
        said = capsys.readouterr().err
        assert code in (1, 2, 3), said
        assert said.count("\n") == 1, said
        assert "Traceback" not in said
        assert snapshot(tmp_path) == before
    finally:
        subprocess.run(["umount", str(place)], check=True)


READERS = {
    "inspect": ["inspect", "NAME"],
    "trace": ["trace", "NAME"],
    "generate": ["generate", "x", "--model", "NAME", "--out", "OUT"],
    "generate --source": ["generate", "x", "--task", "cover", "--source", "NAME", "--out", "OUT"],
    "plan": ["plan", "x", "--model", "NAME"],
    "export": ["export", "NAME", "--out", "OUT"],
    "merge --base-model": [
        "merge",
        "--base-model",
        "NAME",
        "--adapter",
        "IN",
        "--output-dir",
        "OUT",
    ],
    "merge --adapter": [
        "merge",
        "--base-model",
        "mini",
        "--adapter",
        "NAME",
        "--output-dir",
        "OUT",
    ],
    "curate": ["curate", "NAME", "--out", "OUT"],
    "prompts": ["prompts", "NAME"],
    "prompts --interactive": ["prompts", "--interactive", "NAME"],
    "dataset build": ["dataset", "build", "NAME", "--metadata", "IN/meta", "--out", "OUT"],
    "dataset check": ["dataset", "check", "NAME"],
    "dataset styles": ["dataset", "styles", "NAME"],
    "dataset sources": ["dataset", "sources", "check", "--metadata", "NAME", "--audio-dir", "NAME"],
    "dataset import-json": ["dataset", "import-json", "NAME", "--out", "OUT"],
    "train": ["train", "--dataset", "NAME", "--exp-name", "run", "--logs-dir", "OUT"],
    "evaluate": ["evaluate", "NAME", "--reference", "IN/tracks"],
    "evaluate --reference": ["evaluate", "IN/clips", "--reference", "NAME"],
    "evaluate --baseline": [
        "evaluate",
        "IN/clips",
        "--reference",
        "IN/tracks",
        "--baseline",
        "NAME",
    ],
    "compare": ["compare", "NAME", "IN/clips", "--reference", "IN/tracks"],
    "matrix": ["matrix", "--model", "NAME", "--out", "OUT"],
    "demo": ["demo", "--input", "NAME", "--out", "OUT"],
    "mcp": ["mcp", "--root", "NAME"],
    "serve": ["serve", "--home", "NAME", "--port", "0"],
}


@pytest.mark.parametrize("kind", ["long", "letters", "path", "zero", "circle"])
@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_what_is_read_has_an_impossible_name(
    words: list[str], kind: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "circle").symlink_to("circle")
    name = {
        "long": str(tmp_path / ("x" * 256)),
        "letters": str(tmp_path / (LETTER * 64)),
        "path": str(tmp_path) + "/y" * 2100,
        "zero": str(tmp_path / "a\0b"),
        "circle": str(tmp_path / "circle"),
    }[kind]
    places = {"NAME": name, "OUT": str(tmp_path / "out.wav")}
    line = [places.get(w, str(inputs) + w[2:] if w.startswith("IN") else w) for w in words]
    before = snapshot(tmp_path)
    code = main([*line, "--quiet"])
    said = capsys.readouterr().err
    assert code in (1, 2, 3), said
    assert "Traceback" not in said
    assert said.count("\n") == 1, said
    assert snapshot(tmp_path) == before
