"""Bad input, whatever the command: one sentence, the right exit status, nothing half-written."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.cli.main import main
from luthier.files import read_json, write_json
from luthier.training.config import config_from
from luthier.training.lora import add_adapter, save_adapter
from tiny import tiny_model, tiny_onnx, tiny_torch
from tiny_tracks import RATE, make_dataset

QUICK = ["--max-steps", "2", "--save-every", "1", "--batch-size", "2", "--crop-s", "1"]
WRITERS = ["generate", "export", "merge", "train", "evaluate", "curate", "prompts", "dataset"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that a command could want: model, graphs, adapter, tracks, a data set."""
    root = tmp_path_factory.mktemp("shop")
    shutil.copytree(tiny_onnx("int8"), root / "onnx")
    shutil.copytree(tiny_torch(), root / "model")
    make_dataset(root)
    transformer = tiny_model().transformer
    add_adapter(transformer, config_from({"rank": 2}))
    (root / "adapter").mkdir()
    save_adapter(transformer, root / "adapter", "tiny")
    return root


def words(verb: str, shop: Path, out: Path, **given: Path) -> list[str]:
    """A whole command line that works, writing to `out`; `given` replaces what it reads."""
    model, tracks = given.get("model", shop / "model"), given.get("tracks", shop / "tracks")
    data, graphs = given.get("data", shop / "set"), given.get("model", shop / "onnx")
    adapter = given.get("adapter", shop / "adapter")
    metadata = given.get("metadata", shop / "tracks")
    lines: dict[str, list[object]] = {
        "generate": ["x", "--duration", "1", "--model", graphs, "--out", out / "x.wav"],
        "export": [model, "--out", out],
        "merge": ["--base-model", model, "--lora-checkpoint", adapter, "--output-dir", out],
        "train": [
            *("--dataset", data, "--model", model, "--exp-name", "run", "--logs-dir", out),
            *("--cache-dir", out / "cache", *QUICK),
        ],
        "evaluate": [tracks, "--reference", shop / "tracks", "--no-cache", "--out", out / "e.json"],
        "curate": [tracks, "--out", out, "--min-duration", "1", "--target-format", "flac"],
        "prompts": [tracks, "--out", out],
        "dataset": ["build", tracks, "--metadata", metadata, "--out", out],
    }
    return [verb, *map(str, lines[verb]), "--quiet"]


def refusal(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command that must fail: its exit status and the one sentence that it said."""
    code = main(command)
    said = capsys.readouterr().err
    assert said.startswith("luthier: "), said
    assert said.count("\n") == 1, said
    assert code != 0
    return code, said


def files(folder: Path) -> list[str]:
    """Every file below a folder, hidden and temporary ones too; a run's lock is no result."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return sorted(str(p.relative_to(folder)) for p in found)


@pytest.mark.parametrize("kind", ["missing", "empty", "a file"])
@pytest.mark.parametrize("verb", WRITERS)
def test_an_input_folder_that_is_none(
    shop: Path, tmp_path: Path, verb: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "in"
    if kind == "empty":
        there.mkdir()
    elif kind == "a file":
        there.write_text("no folder")
    what = {"train": "data", "export": "model", "merge": "model", "generate": "model"}
    command = words(verb, shop, tmp_path / "out", **{what.get(verb, "tracks"): there})
    code, said = refusal(command, capsys)
    assert code == 1
    assert str(there) in said
    assert files(tmp_path) == (["in"] if kind == "a file" else [])


def test_an_adapter_that_is_none_exits_2(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = Path(shutil.copytree(shop / "adapter", tmp_path / "torn"))
    weights = torn / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:300])
    for adapter in (tmp_path / "missing", torn):
        code, said = refusal(words("merge", shop, tmp_path / "out", adapter=adapter), capsys)
        assert code == 2
        assert str(adapter) in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["generate", "export", "merge", "train"])
def test_a_model_file_with_one_wrong_byte(
    shop: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "onnx" if verb == "generate" else "model"
    model = Path(shutil.copytree(shop / kind, tmp_path / kind))
    path = max((p for p in model.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, said = refusal(words(verb, shop, tmp_path / "out", model=model), capsys)
    assert code == 1
    assert path.name in said
    assert "sha256" in said
    assert not files(tmp_path / "out")


def test_a_torch_model_is_not_played_but_told_how(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words("generate", shop, tmp_path, model=shop / "model")
    assert "luthier export" in refusal(command, capsys)[1]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A text, a torn file, silence and nothing, all named like music."""
    folder = tmp_path / "in"
    noise = np.random.default_rng(0).normal(scale=0.1, size=(2, 4 * RATE)).astype(np.float32)
    write_audio(folder / "silence.wav", 0 * noise, RATE)
    write_audio(folder / "torn.flac", noise, RATE)
    data = (folder / "torn.flac").read_bytes()
    (folder / "torn.flac").write_bytes(data[: len(data) // 3])
    (folder / "text.mp3").write_text("this is no music " * 50)
    (folder / "nothing.mp3").touch()
    return folder


def test_damaged_recordings_fail_one_by_one(
    shop: Path, damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(shop / "tracks" / "calm.wav", damaged)
    command = words("curate", shop, tmp_path / "out", tracks=damaged)
    assert main([word for word in command if word != "--quiet"]) == 2
    told = capsys.readouterr().out
    for name in ("text.mp3", "nothing.mp3", "silence.wav", "torn.flac"):
        assert name in told
    assert [f for f in files(tmp_path / "out") if f.endswith(".flac")] == ["calm.flac"]


@pytest.mark.parametrize("verb", ["prompts", "dataset", "evaluate"])
def test_damaged_tracks_stop_what_reads_them(
    shop: Path, damaged: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if verb == "dataset":  # which asks for records and prompts before it looks at audio
        source = read_json(shop / "tracks" / "sources.json")[0]
        names = [path.stem for path in damaged.iterdir()]
        write_json(damaged / "sources.json", [source | {"track_ids": names}])
        for name in names:
            (damaged / f"{name}_prompt.txt").write_text("calm piano")
            (damaged / f"{name}_lyrics.txt").write_text("[Instrumental]")
    command = words(verb, shop, tmp_path / "out", tracks=damaged, metadata=damaged)
    refusal(command, capsys)
    assert not files(tmp_path / "out")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small disk of its own. Permission bits would not do: they do not bind root."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("verb", WRITERS)
def test_an_output_folder_that_cannot_be(
    shop: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    _, said = refusal(words(verb, shop, tmp_path / "file" / "out"), capsys)
    assert f"{tmp_path / 'file'} is a file" in said
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("verb", WRITERS)
def test_a_read_only_output_folder(
    shop: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", "ro,size=64k") as disk:
        _, said = refusal(words(verb, shop, disk / "out"), capsys)
        assert "Read-only file system" in said
        assert str(disk) in said


@pytest.mark.parametrize("verb", ["generate", "merge", "train", "curate", "dataset"])
def test_a_full_disk(
    shop: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", "size=16k") as disk:
        _, said = refusal(words(verb, shop, disk / "out"), capsys)
        assert "the disk is full" in said
        assert str(disk) in said
        assert not [name for name in files(disk) if ".tmp" in name]


def test_a_limit_on_file_sizes_is_a_full_disk_too(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        _, said = refusal(words("merge", shop, tmp_path / "out"), capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "a file-size limit is reached" in said
    assert files(tmp_path) == []
