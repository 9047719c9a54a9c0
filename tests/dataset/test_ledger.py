from __future__ import annotations

import json

import pytest

from luthier.dataset.curate_file import CurateResult, CurateSettings
from luthier.dataset.curation_log import LEDGER_NAME, Ledger, remove_temporaries
from luthier.errors import PathError
from luthier.files import atomic_file

SETTINGS = CurateSettings()


def add(folder, *places, settings=SETTINGS, **values):
    ledger = Ledger(folder, settings)
    with ledger.open():
        for place in places:
            ledger.add(place, CurateResult(source=f"/in/{place}", status="success", **values))


def test_rows_are_there_for_the_next_run_with_the_same_settings(tmp_path):
    add(tmp_path, "a.wav", "ü/b.wav", quality_score=80)
    add(tmp_path, "a.wav", quality_score=90)
    rows = Ledger(tmp_path, SETTINGS).rows
    assert {place: row["quality_score"] for place, row in rows.items()} == {
        "a.wav": 90,
        "ü/b.wav": 80,
    }
    assert Ledger(tmp_path, CurateSettings(bitrate=128)).rows == {}
    assert Ledger(tmp_path / "none", SETTINGS).rows == {}


@pytest.mark.parametrize("torn", [1, 9, 60, 200])
def test_a_torn_last_line_loses_only_itself(tmp_path, torn):
    add(tmp_path, "a.wav", "b.wav")
    path = tmp_path / LEDGER_NAME
    path.write_bytes(path.read_bytes()[:-torn])
    # Without its line feed alone the row is whole.
    assert set(Ledger(tmp_path, SETTINGS).rows) == ({"a.wav", "b.wav"} if torn == 1 else {"a.wav"})
    add(tmp_path, "c.wav")
    assert {"a.wav", "c.wav"} <= set(Ledger(tmp_path, SETTINGS).rows)


def test_what_others_wrote_there_is_passed_over(tmp_path):
    add(tmp_path, "a.wav")
    key = Ledger(tmp_path, SETTINGS).key
    junk = [b"\xff\xfe", b"[]", b"3", b"{}", json.dumps({"key": key, "row": 1}).encode()]
    with (tmp_path / LEDGER_NAME).open("ab") as stream:
        stream.write(b"\n".join(junk) + b"\n")
    assert set(Ledger(tmp_path, SETTINGS).rows) == {"a.wav"}


def test_it_does_not_grow_for_ever(tmp_path):
    for score in range(9):
        add(tmp_path, "a.wav", "b.wav", quality_score=score)
        add(tmp_path, "a.wav", settings=CurateSettings(bitrate=64 + score))
    assert (tmp_path / LEDGER_NAME).read_bytes().count(b"\n") <= 6


def test_a_ledger_that_cannot_be_read_or_written(tmp_path):
    (tmp_path / LEDGER_NAME).mkdir()
    with pytest.raises(PathError, match="cannot be read"):
        Ledger(tmp_path, SETTINGS)


def test_only_unfinished_files_are_removed(tmp_path):
    kept = ["a.mp3", ".hidden.mp3", "x.tmp.mp3", ".a.12345678.tmpx", ".a.1234567.tmp.mp3"]
    for name in kept:
        (tmp_path / name).touch()
    with atomic_file(tmp_path / f"{'ü' * 60}\nb.v2.mp3") as temporary:
        temporary.touch()
        assert len(list(tmp_path.iterdir())) == len(kept) + 1
        remove_temporaries(tmp_path)
        assert not temporary.exists()
        temporary.touch()
    assert {p.name for p in tmp_path.iterdir()} == {*kept, f"{'ü' * 60}\nb.v2.mp3"}
