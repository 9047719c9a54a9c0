"""The rule of what may be replaced, by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luthier.errors import OutputError, PathError
from luthier.export.leftovers import claimed, remove_leftovers
from luthier.files import atomic_folder, is_temporary, read_json, sibling, write_json
from luthier.output_folder import (
    MODEL,
    check_output,
    check_own_file,
    check_shared,
    foreign_files,
    output_folder,
    stage_of,
)
from luthier.provenance import check_artefact, write_run


def made(path: Path, stage: str = "export", text: str = "x") -> Path:
    with output_folder(path, stage) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.bin").write_text(text)
        write_run(folder, stage=stage, name=path.name)
    return path


def test_a_result_is_replaced_by_one_of_the_same_stage_only(tmp_path: Path) -> None:
    out = made(tmp_path / "out")
    assert read_json(out / "run.json")["files"] == ["sub/a.bin"]
    assert stage_of(out) == "export"
    made(out, text="y")
    assert (out / "sub" / "a.bin").read_text() == "y"
    with pytest.raises(OutputError, match="is what  luthier export  made"):
        made(out, "merge")
    assert (out / "sub" / "a.bin").read_text() == "y"


@pytest.mark.parametrize("name", ["mine.wav", "sub/mine.wav", "new/deep/mine.wav", "empty/"])
def test_what_is_not_on_the_list_stays(tmp_path: Path, name: str) -> None:
    out = made(tmp_path / "out")
    place = out / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir() if name.endswith("/") else place.write_text("precious")
    with pytest.raises(OutputError, match=name.rstrip("/")):
        made(out)
    assert place.exists()


def test_a_link_in_a_result_stays(tmp_path: Path) -> None:
    out = made(tmp_path / "out")
    (tmp_path / "music").mkdir()
    (out / "music").symlink_to(tmp_path / "music")
    assert foreign_files(out) == ["music"]
    with pytest.raises(OutputError, match="music lies in it"):
        made(out)


def test_a_desktops_litter_is_nobodys(tmp_path: Path) -> None:
    out = made(tmp_path / "out")
    (out / ".DS_Store").write_text("")
    made(out)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "Thumbs.db").write_text("")
    made(tmp_path / "empty")


def test_what_comes_while_the_work_goes_on_stays(tmp_path: Path) -> None:
    out = made(tmp_path / "out")

    def work() -> None:
        with output_folder(out, "export") as folder:
            write_run(folder, stage="export")
            (out / "mine.wav").write_text("precious")

    with pytest.raises(OutputError, match=r"mine\.wav"):
        work()
    assert (out / "mine.wav").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("record", ["my notes", "[]", "{}", '{"stage": 3}', '{"stage": "other"}'])
def test_a_run_json_of_others_is_no_mark(tmp_path: Path, record: str) -> None:
    (tmp_path / "run.json").write_text(record)
    with pytest.raises(OutputError):
        check_output(tmp_path, "export")
    with pytest.raises(OutputError):
        check_shared(tmp_path, "curate")


def test_results_from_before_there_was_a_list_are_known_by_their_manifest(tmp_path: Path) -> None:
    out = tmp_path / "out"
    graph = {"external_files": ["a.onnx.data"]}
    manifest = {"models": {"core": {"a.onnx": graph}}, "files": {"luthier.json": {}}}
    for name in ("a.onnx", "a.onnx.data", "luthier.json", "README.md", "report.json"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("x")
    write_json(out / "manifest.json", manifest)
    write_json(out / "run.json", {"stage": "export", "inputs": []})
    check_output(out, "export")
    (out / "mine.onnx").write_text("x")
    with pytest.raises(OutputError, match=r"mine\.onnx"):
        check_output(out, "export")


def test_a_saved_model_is_a_mark_of_its_own(tmp_path: Path) -> None:
    write_json(tmp_path / "m" / "luthier.json", {})
    write_json(tmp_path / "m" / "manifest.json", {"files": {"luthier.json": {}}})
    check_output(tmp_path / "m", MODEL)
    with pytest.raises(OutputError, match="is a model"):
        check_output(tmp_path / "m", "export")
    with pytest.raises(OutputError, match="is a model"):
        check_shared(tmp_path / "m", "train")


def test_a_circle_of_links_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises((OutputError, PathError)):
        made(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


def test_a_file_is_ours_by_its_record_and_its_hash(tmp_path: Path) -> None:
    path, record = tmp_path / "x.wav", tmp_path / "x.wav.run.json"
    check_artefact(path)
    path.write_text("sound")
    with pytest.raises(OutputError, match="is not what luthier wrote"):
        check_artefact(path)
    write_run(path, stage="generate")
    check_artefact(path)
    path.write_text("a recording of theirs")
    with pytest.raises(OutputError, match="is not what luthier wrote"):
        check_artefact(path)
    path.unlink()
    check_artefact(path)
    record.write_text("my notes")
    with pytest.raises(OutputError, match="is no record of luthier"):
        check_own_file(path, record)


def test_records_from_before_they_had_a_hash_are_enough(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_text("sound")
    write_json(tmp_path / "x.wav.run.json", {"stage": "generate", "inputs": []})
    check_artefact(tmp_path / "x.wav")


def test_only_the_writers_own_names_are_temporary(tmp_path: Path) -> None:
    assert is_temporary(sibling(tmp_path / "x.v2.mp3").name)
    for name in (".x.tmp", ".x.12345678.tmp.d.e", "x.12345678.tmp", ".x.1234567g.tmp"):
        assert not is_temporary(name)


def leftover(out: Path) -> Path:
    folder = sibling(out)
    folder.mkdir()
    (folder / "a.onnx").write_text("half")
    return folder


def test_leftovers_of_the_dead_go_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "o[u]t*"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = leftover(out)
    (gone / "export.pid").write_text(str(dead.pid))
    unmarked, number = leftover(out), leftover(out)
    (number / "export.pid").write_text("not a number")
    others = [tmp_path / f".o[u]t*.{name}.tmp" for name in ("mine", "1234567", "0123456g")]
    others += [tmp_path / ".out.01234567.tmp", tmp_path / ".o[u]t*.01234567.tmp.bak"]
    for folder in others:
        folder.mkdir()
        (folder / "export.pid").write_text(str(dead.pid))
    link = sibling(out)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "export.pid").write_text(str(dead.pid))
    link.symlink_to(tmp_path / "real")
    assert remove_leftovers(out) == [gone]
    assert all(folder.is_dir() for folder in [*others, unmarked, number, link, tmp_path / "real"])
    assert (tmp_path / "real" / "export.pid").exists()


def test_an_export_that_lives_is_left_alone_whatever_its_number(tmp_path: Path) -> None:
    """In another container, or on another machine, its number belongs to nobody here."""
    out = tmp_path / "out"
    folder = leftover(out)
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from luthier.export.leftovers import claimed\n"
        "with claimed(Path(sys.argv[1])):\n"
        "    Path(sys.argv[1], 'export.pid').write_text('999999999')\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert remove_leftovers(out) == []
    process.kill()
    process.wait()
    process.stdout.close()
    for _ in range(100):  # the system lets go of the lock
        if remove_leftovers(out):
            break
        time.sleep(0.05)
    assert not folder.exists()


def test_the_mark_goes_with_the_work(tmp_path: Path) -> None:
    with claimed(tmp_path):
        assert (tmp_path / "export.pid").read_text() == str(os.getpid())
        assert shutil.which("true") is None or remove_leftovers(tmp_path / "x") == []
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "new") as folder:
        assert remove_leftovers(tmp_path / "new") == []
        assert folder.is_dir()
