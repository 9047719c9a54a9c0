"""The one way to write: the old file, the new file or none; and sentences instead of errno."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import LuthierError, PathError, StorageError
from luthier.files import (
    atomic_file,
    atomic_folder,
    existing_folder,
    make_folder,
    read_json,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)


def entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB."""
    yield from mounted(tmp_path, "size=64k")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system that takes no writes, not even root's."""
    yield from mounted(tmp_path, "ro,size=64k")


def mounted(tmp_path: Path, options: str) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_is_written_whole_and_alone(tmp_path: Path) -> None:
    write_bytes(tmp_path / "deep" / "er" / "x.bin", b"\x00\xff")
    assert (tmp_path / "deep" / "er" / "x.bin").read_bytes() == b"\x00\xff"
    assert entries(tmp_path / "deep" / "er") == ["x.bin"]


def test_the_temporary_path_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "x.tar.gz") as temporary:
        assert temporary.suffix == ".gz"
        assert temporary.parent == tmp_path
        temporary.write_text("x")


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["x.txt"]


def test_a_failing_writer_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_folder(path) as temporary:
        (temporary / "old.txt").write_text("old")

    def fail() -> None:
        with atomic_folder(path) as temporary:
            (temporary / "new.txt").write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fail()
    assert entries(tmp_path) == ["model"]
    assert entries(path) == ["old.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with atomic_folder(tmp_path / "out") as temporary:
            (temporary / "sub").mkdir()
            (temporary / "sub" / name).write_text(name)
    assert entries(tmp_path) == ["out"]
    assert entries(tmp_path / "out" / "sub") == ["two"]


def test_a_folder_does_not_replace_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("precious")
    with pytest.raises(PathError, match="is a file, but a folder is needed"), atomic_folder(path):
        pytest.fail("the work must not begin")
    assert path.read_text() == "precious"
    assert entries(tmp_path) == ["out"]


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(PathError, match="out cannot be written"):
        write_text(tmp_path / "out", "x")
    assert entries(tmp_path) == ["out"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_folder(tmp_path / "link") as temporary:
        (temporary / "x").write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert entries(tmp_path / "real") == ["x"]
    assert entries(tmp_path) == ["link", "real"]


def test_when_the_swap_fails_the_old_folder_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("old")
    real, calls = os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(PathError, match="Input/output error"), atomic_folder(path) as temporary:
        (temporary / "new").write_text("new")
    assert entries(path) == ["old"]
    assert entries(tmp_path) == ["out"]


def test_a_full_disk_is_a_sentence(small_disk: Path) -> None:
    path = small_disk / "x.bin"
    write_bytes(path, b"old")
    with pytest.raises(StorageError, match="the disk is full") as caught:
        write_bytes(path, bytes(200_000))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert entries(small_disk) == ["x.bin"]


def test_a_full_disk_in_a_folder_leaves_nothing(small_disk: Path) -> None:

    def fill() -> None:
        with atomic_folder(small_disk / "out") as folder:
            for number in range(20):
                (folder / str(number)).write_bytes(bytes(10_000))

    with pytest.raises(StorageError, match="the disk is full"):
        fill()
    assert entries(small_disk) == []


def test_a_read_only_disk_is_a_sentence(read_only_disk: Path) -> None:
    with pytest.raises(PathError, match="Read-only file system"):
        write_text(read_only_disk / "x.txt", "x")
    with pytest.raises(PathError, match="Read-only file system"):
        write_text(read_only_disk / "deep" / "x.txt", "x")
    with pytest.raises(PathError, match="Read-only file system"):
        make_folder(read_only_disk / "out")
    with pytest.raises(PathError, match="Read-only"), atomic_folder(read_only_disk / "out"):
        pytest.fail("the work must not begin")


def test_a_file_size_limit_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from luthier.files import write_bytes;"
        "write_bytes(Path(sys.argv[1]), bytes(100_000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.bin")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "StorageError" in done.stderr
    assert "file-size limit" in done.stderr
    assert entries(tmp_path) == []


@pytest.mark.parametrize("parent", ["file", "file/deeper"])
def test_a_file_where_a_folder_is_needed(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PathError, match=r"a folder is needed|Not a directory"):
        write_text(tmp_path / parent / "x.txt", "x")
    assert entries(tmp_path) == ["file"]


def test_an_input_that_is_missing_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(PathError, match=r"input\.wav cannot be read or written") as caught,
        atomic_file(tmp_path / "out.wav") as temporary,
    ):
        temporary.write_bytes((tmp_path / "input.wav").read_bytes())
    assert "out.wav" not in str(caught.value)
    assert entries(tmp_path) == []


@pytest.mark.parametrize("name", ["🎻" * 60 + ".wav", "x" * 250, "é" * 120 + ".json"])
def test_every_name_the_disk_takes_can_be_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "x")
    assert entries(tmp_path) == [name]


@pytest.mark.parametrize("use", [existing_folder, make_folder, lambda p, _="": write_text(p, "x")])
def test_a_name_too_long_is_a_sentence(tmp_path: Path, use: object) -> None:
    with pytest.raises(PathError, match="File name too long"):
        use(*(tmp_path / ("x" * 300), "input folder")[: 2 if use is existing_folder else 1])  # type: ignore[operator]


def test_killed_while_writing_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    code = (
        "import sys, time; from pathlib import Path; from luthier.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as t:\n"
        "    t.write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_readers_never_see_a_part(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, ["a"] * 5000)
    code = (
        "import sys; from pathlib import Path; from luthier.files import write_json\n"
        "for i in range(60): write_json(Path(sys.argv[1]), [chr(97 + i % 2)] * 5000)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 30
    while child.poll() is None and time.monotonic() < deadline:
        value = read_json(path)
        assert len(value) == 5000
        assert len(set(value)) == 1
    assert child.wait(timeout=5) == 0


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    write_json(path, value)
    assert read_json(path) == value


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"a": 1', "line 1"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_not_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(PathError, match=message) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PathError, match="does not exist"):
        read_json(tmp_path / "x.json")
    with pytest.raises(PathError, match="cannot be read"):
        read_json(tmp_path)
    with pytest.raises(PathError, match="does not exist"):
        sha256_of(tmp_path / "x.json")


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"abc")
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_the_hash_of_a_folder_knows_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> str:
        for key, text in files.items():
            write_text(tmp_path / name / key, text)
        return sha256_of(tmp_path / name)

    first = folder("a", {"x": "1", "sub/y": "2"})
    assert folder("b", {"sub/y": "2", "x": "1"}) == first
    assert folder("c", {"x": "1", "sub/z": "2"}) != first
    assert folder("d", {"x": "1", "sub/y": "3"}) != first
    assert folder("e", {"x": "1", "y": "2"}) != first


def test_an_existing_folder_is_named_by_its_purpose(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert existing_folder(tmp_path, "input folder") == tmp_path
    with pytest.raises(PathError, match=r"the input folder .* does not exist"):
        existing_folder(tmp_path / "none", "input folder")
    with pytest.raises(PathError, match=r"the input folder .* is a file"):
        existing_folder(tmp_path / "file", "input folder")


def test_messages_are_for_people(tmp_path: Path) -> None:
    with pytest.raises(LuthierError) as caught:
        read_json(tmp_path / "x.json")
    assert not str(caught.value).startswith("[Errno")
    assert json.dumps(str(caught.value))
