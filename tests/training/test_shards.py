"""The feature cache on disk: few files, whole after any kill, one writer, damage named."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_features import features
from killed_caching import run as cache_in_a_process
from safetensors.torch import load_file

from luthier.errors import TrainingError
from luthier.files import sha256_of
from luthier.lock import sole_user
from luthier.music.dataset.build import BuildSettings, build_dataset
from luthier.music.training.feature_cache import Entry
from luthier.progress import Display
from luthier.training import shards as module
from luthier.training.shards import Shards, Stored
from tiny_tracks import write_tracks

TRACKS = {f"t{i}": (2.0 + i, 2.0 + i / 4) for i in range(9)}


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of nine tracks."""
    folder = tmp_path_factory.mktemp("nine")
    write_tracks(folder / "tracks", TRACKS)
    split = BuildSettings(validation_split=0.0, repeat_count=1)
    build_dataset(folder / "tracks", folder / "tracks", folder / "set", split)
    return folder / "set"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_SHARD_ENTRIES", 2)
    return


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def put(shards: Shards, *keys: str, value: float = 1.0, rows: int = 3) -> None:
    for key in keys:
        shards.ensure(key, lambda: {"x": torch.full((rows, 2), value)})


def killed(model: Path, dataset: Path, folder: Path, files: int, chance: random.Random) -> bool:
    """Start caching and kill it when there are `files` files; whether that hit it at work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["luthier.music.training.feature_cache", "datasets"])
    process = context.Process(target=cache_in_a_process, args=(model, dataset, folder))
    process.start()
    deadline = time.monotonic() + 120
    while process.is_alive() and time.monotonic() < deadline:
        if sum(1 for p in folder.rglob("*.safetensors")) >= files:
            time.sleep(chance.random() * 0.02)
            break
        time.sleep(0.001)
    process.kill()
    process.join(60)
    return process.exitcode == -signal.SIGKILL


def test_after_kills_the_cache_is_the_one_of_an_undisturbed_run(
    nine: Path, model_dir: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = features(nine, model_dir, tmp_path / "whole")
    chance = random.Random(4)
    hits = [killed(model_dir, nine, tmp_path / "torn", files, chance) for files in (1, 3, 6, 8)]
    assert sum(hits) >= 2, "hardly a kill hit the process at work"
    done = {p.name for p in (tmp_path / "torn" / "shards").glob("[!.]*")}
    done |= {p.stem for p in (tmp_path / "torn" / "pending").glob("[!.]*")}
    assert done, "nothing was finished before the kills"
    made: list[str] = []
    real = Shards.ensure

    def listening(self: Shards, key: str, make: Any) -> None:
        real(self, key, lambda: made.append(key) or make())

    monkeypatch.setattr(Shards, "ensure", listening)
    found = features(nine, model_dir, tmp_path / "torn")
    assert [e.to_json() for e in found] == [e.to_json() for e in expected]
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")
    finished = {key for name in done for key in (name, *keys_of(expected, name))}
    assert not finished & set(made), "what was finished was encoded again"


def keys_of(entries: list[Entry], shard: str) -> set[str]:
    stored = [s for e in entries for v in e.variants for s in (v.target, v.conditions)]
    return {s.key for s in stored if s.shard.name == shard}


def test_files_are_few_whole_and_named_by_their_content(tmp_path: Path, small: None) -> None:
    shards = Shards(tmp_path)
    put(shards, *"abcdefg")
    shards.pack()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4  # of two entries each; nothing is left under pending/
    assert all(sha256_of(path) == path.stem for path in files)
    assert sorted(tuple(load_file(path)) for path in files) == [
        ("a/x", "b/x"), ("c/x", "d/x"), ("e/x", "f/x"), ("g/x",),
    ]  # fmt: skip


def test_a_shard_is_closed_when_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARD_BYTES", 2000)
    shards = Shards(tmp_path)
    put(shards, *"abcdefgh", rows=100)  # 800 bytes, and what the format adds
    shards.pack()
    sizes = [path.stat().st_size for path in (tmp_path / "shards").iterdir()]
    assert len(sizes) == 3
    assert max(sizes) < 3 * 1000


def test_a_damaged_shard_is_named_and_only_its_entries_are_made_again(
    tmp_path: Path, small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Shards(tmp_path)
    put(first, *"abcdef")
    whole = contents(tmp_path)
    places = {key: first.find(key) for key in "ace"}
    flipped, torn = (place.shard for place in (places["a"], places["e"]) if place)
    data = flipped.read_bytes()
    flipped.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    torn.write_bytes(torn.read_bytes()[:-7])
    again = Shards(tmp_path, Display("plain"))
    made = []
    for key in "abcdef":
        again.ensure(key, lambda key=key: made.append(key) or {"x": torch.full((3, 2), 1.0)})  # type: ignore[misc]
    assert made == ["a", "b", "e", "f"]
    assert contents(tmp_path) == whole
    said = capsys.readouterr().err
    assert f"{flipped} is damaged: its 2 entries are encoded again" in said
    assert f"{torn} is damaged" in said


def test_a_cache_that_goes_away_is_a_sentence(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    put(shards, "a")
    shards.pack()
    stored = shards.find("a")
    assert stored is not None
    assert stored.read("x", 1, 5).shape == (2, 2)
    assert stored.length("x") == 3
    stored.shard.unlink()
    with pytest.raises(TrainingError, match="feature cache was changed while it was in use"):
        stored.read("x")


def test_numbers_that_are_none_are_not_kept(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    with pytest.raises(TrainingError, match=r"x that are no numbers \(NaN\)"):
        put(shards, "a", value=float("nan"))
    shards.pack()
    assert contents(tmp_path) == {}


def test_what_nothing_names_goes_after_a_week(
    nine: Path, model_dir: Path, tmp_path: Path, small: None
) -> None:
    before = features(nine, model_dir, tmp_path)
    whole = contents(tmp_path)
    old = Shards(tmp_path)
    put(old, *("a" * 64, "b" * 64, "c" * 64))  # two in a shard, one waits: never taken up again
    young = Shards(tmp_path)
    put(young, "u", "v", value=2.0)
    for path in tmp_path.rglob("*.safetensors"):
        if "u/x" not in load_file(path):
            os.utime(path, (1, 1))
    (tmp_path / "shards" / ".half.0123abcd.tmp.safetensors").write_text("half")
    theirs = [tmp_path / name for name in ("shards/mine.safetensors", "pending/mine.safetensors")]
    theirs += [tmp_path / "shards" / ".mine.tmp.safetensors", tmp_path / "indexes" / ".a.tmp"]
    for path in theirs:  # of somebody else, and no shards at all
        path.write_text("precious")
        os.utime(path, (1, 1))
    assert features(nine, model_dir, tmp_path) == before
    left = contents(tmp_path)
    assert whole.items() <= left.items()
    assert all(path.read_text() == "precious" for path in theirs)
    assert len(left) == len(whole) + 1 + len(theirs)  # the young one


def test_two_writers_take_turns(nine: Path, model_dir: Path, tmp_path: Path) -> None:
    """The second waits and then finds everything done."""
    said: list[str] = []

    class Told(Display):
        def say(self, text: str) -> None:
            said.append(text)

    found: list[list[Entry]] = []
    with sole_user(tmp_path):
        second = threading.Thread(
            target=lambda: found.append(features(nine, model_dir, tmp_path, display=Told("none")))
        )
        second.start()
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert said == [f"another run encodes into {tmp_path}: waiting for it"]
        assert not (tmp_path / "shards").exists()
    second.join(120)
    assert len(found[0]) == 9
    assert found[0] == features(nine, model_dir, tmp_path)


def test_the_lock_leaves_nothing_that_was_not_there(tmp_path: Path) -> None:
    with sole_user(tmp_path / "logs" / "run"):
        assert (tmp_path / "logs" / "run" / ".lock").is_file()
    assert list(tmp_path.iterdir()) == []
    with sole_user(tmp_path / "logs" / "run"):
        (tmp_path / "logs" / "run" / "kept").write_text("x")
    assert [p.name for p in (tmp_path / "logs" / "run").iterdir()] == ["kept"]


def test_many_waiters_never_hold_it_at_once(tmp_path: Path) -> None:
    """Though each removes the lock file on leaving."""
    inside, most, lock = 0, 0, threading.Lock()

    def visit() -> None:
        nonlocal inside, most
        for _ in range(20):
            with sole_user(tmp_path / "x", before_waiting=lambda: None):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_equal_entries_are_one(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    put(shards, "a", "a")
    shards.pack()
    put(shards, "a", value=2.0)
    shards.pack()
    assert isinstance(shards.find("a"), Stored)
    assert len(list((tmp_path / "shards").iterdir())) == 1
    assert shards.find("b") is None
