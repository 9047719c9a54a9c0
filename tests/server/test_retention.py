"""Retention: what this server made and needs no more goes; what it does not know stays, whatever
happens to the database, and is told.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import RequestError
from luthier.server.acestep.datasets import Datasets
from luthier.server.home import check_home, keep_journal
from luthier.server.jobs.jobs import Jobs
from luthier.server.queue import retention as cleaning
from luthier.server.queue.clock import Uptime
from luthier.server.queue.database import Store
from luthier.server.queue.inventory import Inventory
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.queue.retention import Cleaner, Places

KEEP_S = 3600.0
LONG_AGO = 10**9


class Home:
    """A home with its queue, whose clock a test moves."""

    def __init__(self, folder: Path) -> None:
        self.places = Places(folder)
        self.now_s = 100.0
        self.open()

    def open(self) -> None:
        """As a server that starts."""
        self.queue = Queue(self.places.database)
        self.leases = Leases(self.queue, steady=lambda: self.now_s)
        self.inventory = Inventory(self.queue.store)
        self.uptime = Uptime(self.queue.store, lambda: self.now_s, lambda: "this boot")
        self.cleaner = self.cleaning()

    def cleaning(self, keep_bytes: int = 10**9) -> Cleaner:
        return Cleaner(
            self.queue,
            self.places,
            keep_s=KEEP_S,
            keep_bytes=keep_bytes,
            inventory=self.inventory,
            uptime=self.uptime,
        )

    def restart(self) -> None:
        self.queue.close()
        self.open()

    def result(self, size_bytes: int = 10) -> Path:
        """The folder of a finished task."""
        self.queue.submit({"kind": "music"})
        task = self.leases.claim("w")
        assert task is not None
        folder = self.places.results / task.id / task.folder
        folder.mkdir(parents=True)
        for name in ("1.mp3", "1.mp3.run.json"):
            (folder / name).write_bytes(b"x")
        told = {"folder": task.folder, "pieces": [{"path": "1.mp3"}]}
        assert self.leases.finish(task, told, size_bytes) == "succeeded"
        return folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    home.queue.close()


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def others(home: Home) -> set[str]:
    """Put other people's files everywhere, years old."""
    names = {
        *("results/song.wav", "results/album/1.mp3", "results/album/deep/2.mp3"),
        *("uploads/mine.wav", "uploads/0123456789abcdef0123456789abcdef/source_audio.wav"),
        *("jobs/thesis.txt", "dataset/dataset_label-mine/asked.json", "notes.txt"),
    }
    for name in names:
        path = home.places.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
        for one in (path, path.parent):
            os.utime(one, (LONG_AGO, LONG_AGO))
    return names


def told_of(caplog: pytest.LogCaptureFixture, what: str) -> list[dict[str, Any]]:
    return [r.facts for r in caplog.records if r.getMessage() == what]  # type: ignore[attr-defined]


def test_old_and_large_results_go_the_oldest_first(home: Home) -> None:
    first, second, third = (home.result(100) for _ in range(3))
    assert home.cleaning(keep_bytes=250).clean() == 1
    assert [f.exists() for f in (first, second, third)] == [False, True, True]
    assert not first.parent.exists()
    home.now_s += KEEP_S - 1
    assert home.cleaner.clean() == 0
    waiting = home.queue.submit({}).task.id
    home.now_s += 2
    assert home.cleaner.clean() == 2
    assert not any(home.places.results.iterdir())
    assert home.queue.get(waiting).state == "queued"
    assert home.queue.store.rows("SELECT * FROM folders") == []


def test_files_of_others_stay_for_ever_and_are_told_once(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    names = others(home)
    folder = home.result()
    (folder / "cover.png").write_bytes(b"mine")
    home.cleaner.clean()
    home.now_s += 10 * KEEP_S
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            home.cleaner.clean()
    assert not (folder / "1.mp3").exists()
    kept = {f"results/{folder.parent.name}/{folder.name}/cover.png"}
    assert names | kept <= files(home.places.home)
    (told,) = told_of(caplog, "folder not removed")
    assert told["why"] == "1 entries in it are not this server's, and stay"
    home.restart()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            home.cleaner.clean()
    told_now = {t["folder"]: t["entries"] for t in told_of(caplog, "unknown files")[-2:]}
    assert told_now == {str(home.places.results): 3, str(home.places.uploads): 2}
    assert len(told_of(caplog, "unknown files")) == 4  # once a start and place


@pytest.mark.parametrize("how", ["moved", "moved with its journal", "empty file", "no rows"])
def test_without_its_database_a_server_keeps_every_result(
    home: Home, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [home.result() for _ in range(25)]
    home.cleaner.clean()
    if how == "no rows":
        for table in ("tasks", "workers", "counts", "changes", "uptime"):
            with home.queue.store.transaction() as connection:
                connection.execute(f"DELETE FROM {table}")
    home.queue.close()
    database = home.places.database
    if how == "empty file":
        database.write_bytes(b"")
    elif how != "no rows":
        os.replace(database, database.with_name("broken.sqlite3"))
    home.now_s += 30 * 86400
    home.open()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            home.cleaner.clean()
            home.now_s += 30 * 86400
    assert all(files(folder) == {"1.mp3", "1.mp3.run.json"} for folder in folders)
    (told,) = told_of(caplog, "unknown files")
    assert told["told"] == ("25 entries belong to no task that this database knows: they stay.")
    later = home.result()  # and it goes on as ever
    home.cleaner.clean()
    home.now_s += KEEP_S + 1
    home.cleaner.clean()
    assert not later.exists()
    assert all(folder.exists() for folder in folders)


def test_the_database_of_another_time_removes_nothing_of_later(home: Home) -> None:
    home.result()
    home.queue.close()
    backup = home.places.database.read_bytes()
    home.open()
    later = home.result()
    home.queue.close()
    home.places.database.write_bytes(backup)
    home.open()
    home.cleaner.clean()
    home.now_s += KEEP_S + 1
    assert home.cleaner.clean() == 1
    assert files(later) == {"1.mp3", "1.mp3.run.json"}


def test_what_a_killed_server_left_half_written_goes_with_the_next(home: Home) -> None:
    upload = home.inventory.new_upload()
    (upload / "source_audio.wav").write_bytes(b"half")
    (upload / ".reference_audio.1a.tmp.mp3").write_bytes(b"half")
    home.queue.submit({})
    task = home.leases.claim("w")
    assert task is not None
    half = home.places.results / task.id / f".{task.folder}.12345678.tmp"
    whole = home.places.results / task.id / task.folder
    for folder in (half, whole):
        folder.mkdir(parents=True)
        (folder / "1.mp3").write_bytes(b"half")
    home.cleaner.clean()
    assert all(p.exists() for p in (upload, half, whole))  # they are being written
    home.restart()
    home.cleaner.clean()
    assert not upload.exists()
    assert half.exists()  # its worker may still be there
    home.leases.abandon("w")
    home.cleaner.clean()
    assert not (home.places.results / task.id).exists()
    assert home.queue.get(task.id).state == "queued"


def test_uploads_stay_while_their_task_may_be_tried_again(home: Home) -> None:
    upload = home.inventory.new_upload()
    (upload / "source_audio.wav").write_bytes(b"x")
    identity = home.queue.submit({}, uploads=upload.name).task.id
    home.queue.cancel(identity)
    home.restart()
    home.cleaner.clean()
    assert (upload / "source_audio.wav").exists()
    home.queue.delete(identity)
    home.inventory.sweep(identity)
    assert not upload.exists()


def test_what_a_server_was_killed_before_removing_goes_with_the_next(home: Home) -> None:
    folder = home.result()
    home.queue.delete(folder.parent.name)  # and no more
    home.restart()
    assert folder.exists()
    home.cleaner.clean()
    assert not folder.parent.exists()


@pytest.mark.parametrize("where", ["results", "task", "attempt", "file"])
def test_nothing_is_removed_through_a_link(home: Home, tmp_path: Path, where: str) -> None:
    folder = home.result()
    place = {
        "results": home.places.results,
        "task": folder.parent,
        "attempt": folder,
        "file": folder / "1.mp3",
    }[where]
    elsewhere = tmp_path / "elsewhere"
    os.replace(place, elsewhere)
    place.symlink_to(elsewhere)
    before = files(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()
    home.cleaner.clean()
    home.now_s += KEEP_S + 1
    assert home.cleaner.clean() == 1
    assert (files(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()) == before
    assert place.is_symlink()


def test_results_that_lie_behind_a_link_from_the_start_expire_there(
    home: Home, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    (disk / "of another").mkdir(parents=True)
    home.places.results.symlink_to(disk)
    folder = home.result()
    home.cleaner.clean()
    home.now_s += KEEP_S + 1
    home.cleaner.clean()
    assert not folder.exists()
    assert [p.name for p in disk.iterdir()] == ["of another"]


def test_a_job_goes_without_what_others_put_into_its_folder(home: Home) -> None:
    jobs = Jobs(home.queue.store)
    ids = []
    for _ in range(2):
        job = jobs.add("train", {}, [])
        jobs.stop(job.id)
        folder = home.places.home / "jobs" / job.id
        folder.mkdir(parents=True)
        for name in ("log.txt", "exit.json", ".exit.12345678.tmp.json"):
            (folder / name).write_bytes(b"x")
        ids.append(job.id)
    first, second = (home.places.home / "jobs" / identity for identity in ids)
    (first / "thesis.txt").write_bytes(b"mine")
    for identity in ids:
        jobs.delete(identity)
    assert files(first) == {"thesis.txt"}
    assert not second.exists()


def test_a_labelling_replaces_only_the_one_before_it(home: Home) -> None:
    folder = home.places.home / "dataset"
    names = others(home)
    datasets = Datasets(folder, Jobs(home.queue.store))
    for task in ("dataset_label-1", "dataset_prepare-1", "dataset_label-2"):
        datasets.prepare(task, {"samples": []})
        (folder / task / "answer.json").write_bytes(b"x")
    assert {p.name for p in folder.iterdir()} == {
        *("dataset_label-mine", "dataset_prepare-1", "dataset_label-2")
    }
    assert names <= files(home.places.home)


def test_a_folder_that_cannot_be_removed_is_tried_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home.result()
    home.cleaner.clean()
    home.now_s += KEEP_S + 1

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "unlink", refuse)
        home.cleaner.clean()
    assert (folder / "1.mp3").exists()
    home.cleaner.clean()
    assert not folder.exists()


def test_much_at_once_waits_an_hour_and_says_so(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [home.result() for _ in range(30)]
    home.cleaner.clean()
    home.now_s += KEEP_S + 1
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert home.cleaner.clean() == 0
    (told,) = told_of(caplog, "retention waits")
    assert told["told"].startswith("30 of 30 ended tasks have expired and go in 60 minutes")
    home.now_s += cleaning.WAIT_S + 1
    assert home.cleaner.clean() == 30
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("jump_s", [3600, -3600, 7 * 86400, -7 * 86400])
@pytest.mark.parametrize("is_running", [True, False])
def test_no_jump_of_the_calendar_removes_a_result(
    home: Home, monkeypatch: pytest.MonkeyPatch, jump_s: float, is_running: bool
) -> None:
    folders = [home.result(100) for _ in range(3)]
    home.cleaner.clean()
    if not is_running:
        home.queue.close()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    if not is_running:
        home.open()
    newest = home.result(100)
    for _ in range(3):
        home.now_s += 60
        assert home.cleaner.clean() == 0
    assert home.cleaning(keep_bytes=350).clean() == 1  # the oldest still, whatever the dates say
    assert [f.exists() for f in (*folders, newest)] == [False, True, True, True]
    home.now_s += KEEP_S
    assert home.cleaner.clean() == 3  # and what is old is old


def test_time_in_which_the_machine_was_off_makes_nothing_older(tmp_path: Path) -> None:
    store = Store(tmp_path / "tasks.sqlite3")
    boot, now_s = "one", 1000.0

    def uptime() -> Uptime:
        return Uptime(store, lambda: now_s, lambda: boot)

    first = uptime()
    start = first.now()
    now_s += 50
    first.keep()
    assert uptime().now() == start + 50
    now_s += 30  # the server is down, the machine is on
    assert uptime().now() == start + 80
    uptime().keep()
    boot, now_s = "two", 5.0  # another start of the machine, another clock
    second = uptime()
    assert second.now() == start + 80
    now_s += 7
    assert second.now() == uptime().now() == start + 87
    second.keep()
    now_s = 1.0  # a virtual machine that was set back
    assert uptime().now() == start + 87
    store.close()


def test_a_queue_of_version_two_hands_over_what_it_made(tmp_path: Path) -> None:
    path = tmp_path / "tasks.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE tasks (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
        "turn INTEGER NOT NULL, state TEXT NOT NULL, request TEXT NOT NULL, "
        "idempotency_key TEXT UNIQUE, digest TEXT NOT NULL, uploads TEXT, created REAL NOT NULL, "
        "started REAL, ended REAL, changed REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, "
        "worker TEXT, lease_until REAL, cancel_asked INTEGER NOT NULL DEFAULT 0, "
        "progress REAL NOT NULL DEFAULT 0, stage TEXT NOT NULL DEFAULT 'queued', result TEXT, "
        "error TEXT, size_bytes INTEGER NOT NULL DEFAULT 0, kind TEXT NOT NULL DEFAULT '', "
        "model TEXT NOT NULL DEFAULT '', work REAL NOT NULL DEFAULT 0, "
        "client TEXT NOT NULL DEFAULT '', priority INTEGER NOT NULL DEFAULT 0, "
        "round INTEGER NOT NULL DEFAULT 0, passed INTEGER NOT NULL DEFAULT 0);"
        "CREATE INDEX tasks_by_change ON tasks (changed);"
        "CREATE TABLE workers (name TEXT PRIMARY KEY, pid INTEGER NOT NULL, "
        "started REAL NOT NULL, seen REAL NOT NULL, loaded TEXT NOT NULL DEFAULT '[]');"
        "INSERT INTO tasks (id, turn, state, request, digest, created, ended, changed, result) "
        "VALUES ('done', 1, 'succeeded', '{}', '', 1.0, 2.0, 2.0, "
        '\'{"folder": "f", "pieces": [{"path": "1.mp3"}]}\'), '
        "('odd', 2, 'succeeded', '{}', '', 1.0, 2.0, 2.0, 'no json');"
        "INSERT INTO tasks (id, turn, state, request, digest, created, ended, changed, uploads) "
        "VALUES ('waits', 3, 'queued', '{}', '', 1.0, NULL, 2.0, 'u');"
        "PRAGMA user_version = 2;"
    )
    connection.close()
    for name in ("results/done/f/1.mp3", "results/stranger/f/1.mp3", "uploads/u/source_audio.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    home = Home(tmp_path)
    home.cleaner.clean()
    assert {task.id for task in home.queue.page()} == {"done", "odd", "waits"}
    home.now_s += KEEP_S + 1
    assert home.cleaner.clean() == 2
    assert files(tmp_path) >= {"results/stranger/f/1.mp3", "uploads/u/source_audio.wav"}
    assert not (tmp_path / "results" / "done").exists()
    home.queue.close()


@pytest.mark.parametrize("name", ["lora.json", "links.secret", "webhooks.secret"])
def test_a_home_whose_files_would_be_written_over_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "results").mkdir()
    check_home(tmp_path)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(RequestError, match="no server of luthier has written it"):
        check_home(tmp_path)
    assert RequestError.exit_code == 2


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tasks.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE tasks (id INTEGER, title TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RequestError, match="none of a luthier server"):
        Queue(path)
    assert path.read_bytes() == before


def test_the_journal_of_a_database_that_was_moved_away_is_kept(home: Home) -> None:
    home.result()
    database = home.places.database
    journal = database.with_name("tasks.sqlite3-wal")
    written = journal.read_bytes()
    assert written
    crashed, crashed_journal = database.read_bytes(), written
    home.queue.close()
    database.unlink()
    journal.write_bytes(crashed_journal)  # as a kill leaves it
    moved = database.with_name("old.sqlite3")
    moved.write_bytes(crashed)
    keep_journal(database)
    home.open()
    assert home.queue.counts().total == 0
    (aside,) = database.parent.glob("tasks.*.sqlite3-wal")
    os.replace(aside, moved.with_name("old.sqlite3-wal"))
    old = Queue(moved)
    assert old.counts().succeeded == 1
    old.close()
