from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from luthier.dataset.licence_gate import check_sources, refusals, require_licences
from luthier.dataset.source_import import COLUMNS, add_records, read_csv, record_from
from luthier.dataset.sources import cc_flags_of, load_sources, record_of
from luthier.errors import DatasetError, LicenceError, PathError


def record(**changes):
    row = {
        "source_id": "own",
        "track_ids": ["a", "b"],
        "source_type": "creative_commons",
        "provider": "someone",
        "license_type": "CC0-1.0",
        "date_acquired": "2025-01-01",
        "ai_training_allowed": True,
    }
    return row | changes


def load(tmp_path, *rows):
    path = tmp_path / "sources.json"
    path.write_text(json.dumps(list(rows), indent=1))
    return load_sources(path)


def test_licences_of_allowed_tracks(tmp_path):
    sources = load(
        tmp_path, record(), record(source_id="two", track_ids=["c"], license_type="CC-BY-4.0")
    )
    assert require_licences(["c", "a", "b"], sources) == ["CC-BY-4.0", "CC0-1.0"]
    assert require_licences(["a"], sources) == ["CC0-1.0"]


def test_permission_has_to_be_stated_and_every_refused_track_is_listed(tmp_path):
    silent = record(source_id="silent", track_ids=["c"])
    del silent["ai_training_allowed"]
    unknown = record(source_id="unknown", track_ids=["d"], ai_training_allowed=None)
    forbidden = record(source_id="no", track_ids=["e"], ai_training_allowed=False)
    sources = load(tmp_path, record(), silent, unknown, forbidden)
    with pytest.raises(LicenceError) as caught:
        require_licences([*"acdex", *(f"y{i}" for i in range(40))], sources)
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert "44 tracks" in message
    assert "c (silent does not say whether AI training is allowed)" in message
    assert "d (unknown does not say whether AI training is allowed)" in message
    assert "e (no does not allow AI training)" in message
    assert all(f"y{i} (no source record)" in message for i in range(40))
    rows = caught.value.to_json()["refused"]
    assert [row["track_id"] for row in rows[:4]] == ["c", "d", "e", "x"]
    assert rows[2] == {
        "track_id": "e",
        "reason": "no does not allow AI training",
        "source_id": "no",
    }


def test_of_two_records_the_stricter_counts(tmp_path):
    sources = load(
        tmp_path, record(), record(source_id="no", track_ids=["b"], ai_training_allowed=False)
    )
    assert record_of("b", sources).source_id == "no"
    assert [r.track_id for r in refusals(["a", "b"], sources)] == ["b"]
    assert record_of("z", sources) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (record(source_type="commissioned"), "needs its cost"),
        (record(date_acquired="2999-01-01"), "in the future"),
        (record(date_acquired=1700000000), "YYYY-MM-DD"),
        (record(source_type="found"), r"sources\.json:8:.*source_type"),
        (record(licence="x"), "licence"),
        (record(ai_training_allowed="maybe"), "ai_training_allowed"),
        (record(track_ids=["a", "a"]), "'a' 2 times"),
        (record(cost=-1), "cost"),
        (record(cc_flags=["XY"]), "cc_flags"),
        (record(license_type="CC-BY-4.0", cc_flags=["BY", "NC"]), "contradict"),
        (record(cc_flags=["ND", "SA"]), "exclude each other"),
        ("text", r"sources\.json:2:"),
    ],
)
def test_a_wrong_record_is_said_with_its_line(tmp_path, row, message):
    with pytest.raises(DatasetError, match=message):
        load(tmp_path, row)


def test_all_wrong_records_are_said_at_once(tmp_path):
    with pytest.raises(DatasetError) as caught:
        load(tmp_path, record(cost=-1), record(source_id=""), record(source_id="x", provider=""))
    assert "3 things are wrong" in str(caught.value)


def test_an_id_stands_once(tmp_path):
    with pytest.raises(DatasetError, match="'own' is there twice"):
        load(tmp_path, record(), record(track_ids=["c"]))


def test_a_wrong_file_is_said(tmp_path):
    path = tmp_path / "sources.json"
    path.write_text("3")
    with pytest.raises(DatasetError, match="JSON array"):
        load_sources(path)
    path.write_text("[")
    with pytest.raises(PathError, match="not valid JSON"):
        load_sources(path)


def test_records_by_track_id_are_read_too(tmp_path):
    facts = {name: value for name, value in record().items() if name != "track_ids"}
    path = tmp_path / "sources.json"
    alone = {name: value for name, value in facts.items() if name != "source_id"}
    path.write_text(json.dumps({"a": facts, "b": facts, "c": alone | {"provider": "other"}}))
    own, c = load_sources(path)
    assert (own.source_id, own.track_ids) == ("own", ("a", "b"))
    assert (c.source_id, c.track_ids) == ("c", ("c",))
    path.write_text(json.dumps({"a": facts, "b": facts | {"provider": "other"}}))
    with pytest.raises(DatasetError, match="'own' is there twice with different facts"):
        load_sources(path)


def test_creative_commons_flags():
    assert cc_flags_of("CC-BY-NC-SA-4.0") == ("BY", "NC", "SA")
    assert cc_flags_of("cc by-nd 3.0") == ("BY", "ND")
    assert cc_flags_of("CC0-1.0") == cc_flags_of("work for hire") == ()
    by = record_from(record(license_type="CC-BY-4.0"))
    assert by.attribution_line == "someone, CC-BY-4.0"
    assert record_from(record(attribution="Track by X")).attribution_line == "Track by X"
    assert record_from(record(cc_flags=["BY"])).flags == ("BY",)
    for folder, kind in (("royalty-free", "royalty_free"), ("partnerships", "partnership")):
        assert record_from(record(source_type=folder)).source_type == kind


def test_the_check_names_what_is_doubtful(tmp_path):
    sources = load(
        tmp_path,
        record(evidence="licence.pdf", license_type="CC-BY-NC-ND-4.0"),
        record(source_id="two", track_ids=["b", "track-one"], evidence="mail of 3. May"),
    )
    report = check_sources(sources, tmp_path, ["a", "b", "track-1"])
    assert [r.track_id for r in report.refused] == ["track-1"]
    problems = "\n".join(report.problems)
    assert "b is claimed by own, two" in problems
    assert "'track-one', which is not there; the nearest is 'track-1'" in problems
    assert "own: the evidence licence.pdf is not in" in problems
    assert len(report.problems) == 3
    notes = "\n".join(report.notes)
    for word in ("(NC)", "(ND)", "(BY)", "verified_by"):
        assert word in notes
    (tmp_path / "licence.pdf").write_text("yes")
    assert len(check_sources(sources, tmp_path, ["a", "b", "track-1"]).problems) == 2


def test_records_are_added_and_replaced(tmp_path):
    one, two = record_from(record()), record_from(record(source_id="two", track_ids=["c"]))
    assert add_records(tmp_path / "new", [one, two], dry_run=True) == [one, two]
    assert not (tmp_path / "new").exists()
    add_records(tmp_path / "new", [one])
    add_records(tmp_path / "new", [two])
    path = tmp_path / "new" / "sources.json"
    assert load_sources(path) == [one, two]
    before = path.read_bytes()
    with pytest.raises(DatasetError, match="has the source 'two' already"):
        add_records(tmp_path / "new", [two])
    with pytest.raises(DatasetError, match="'a' belongs to 'own' already"):
        add_records(tmp_path / "new", [record_from(record(source_id="x", track_ids=["a"]))])
    assert path.read_bytes() == before
    other = record_from(record(source_id="two", track_ids=["c", "d"]))
    assert add_records(tmp_path / "new", [other], replace=True) == [one, other]
    assert load_sources(path) == [one, other]


def test_a_file_keyed_by_track_stays_so(tmp_path):
    facts = {name: value for name, value in record().items() if name != "track_ids"}
    path = tmp_path / "sources.json"
    path.write_text(json.dumps({"a": facts, "b": facts}))
    add_records(tmp_path, [record_from(record(source_id="two", track_ids=["c", "d"]))])
    assert list(json.loads(path.read_text())) == ["a", "b", "c", "d"]
    assert [(s.source_id, s.track_ids) for s in load_sources(path)] == [
        ("own", ("a", "b")),
        ("two", ("c", "d")),
    ]
    add_records(tmp_path, [record_from(record(track_ids=["a"]))], replace=True)
    assert [s.track_ids for s in load_sources(path)] == [("c", "d"), ("a",)]


def _add_one(folder: Path, number: int) -> None:
    row = record_from(record(source_id=f"s{number}", track_ids=[f"t{number}"]))
    add_records(folder, [row])


def test_two_who_add_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add_one, args=(tmp_path, i)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = {source.source_id for source in load_sources(tmp_path / "sources.json")}
    assert found == {f"s{i}" for i in range(6)}
    assert [p.name for p in tmp_path.iterdir()] == ["sources.json"]


CSV = """\
source_id,track_ids,source_type,provider,license_type,date_acquired,ai_training_allowed,cost,notes
own,a;b,commissioned,me,work for hire,2025-01-01,yes,12.50,"two
lines"

cc,c,creative_commons,x,CC-BY-SA-4.0,2025-02-03,No,,
cc,d,creative_commons,x,CC-BY-SA-4.0,2025-02-03,no,,
free,e,royalty-free,x,site terms,2025-02-03,unknown,,
"""


def test_a_csv_file(tmp_path):
    path = tmp_path / "sources.csv"
    path.write_bytes(b"\xef\xbb\xbf" + CSV.encode())
    own, cc, free = read_csv(path)
    assert (own.track_ids, own.cost, own.notes) == (("a", "b"), 12.5, "two\nlines")
    assert (own.ai_training_allowed, cc.ai_training_allowed) == (True, False)
    assert free.ai_training_allowed is None
    assert cc.track_ids == ("c", "d")
    assert cc.flags == ("BY", "SA")
    assert {"source_id", "cc_flags", "evidence"} <= set(COLUMNS)
    add_records(tmp_path, [own, cc, free])
    assert load_sources(tmp_path / "sources.json") == [own, cc, free]


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ("2025-02-03,No", "2025-99-03,No", [r"csv:5: date_acquired"]),
        (",No,", ",perhaps,", [r"csv:5: ai_training_allowed is 'perhaps'.*yes, no or unknown"]),
        ("12.50", "", [r"csv:2: a commissioned source needs its cost"]),
        ("12.50", "many", [r"csv:2: cost.*'many'"]),
        ("cc,d,creative_commons,x", "cc,d,creative_commons,y", [r"csv:6: .*'cc' differs.*line 5"]),
        ("cc,d", "cc,c", [r"csv:6: the track 'c' stood on an earlier line"]),
        ("free,e,", "free,e,e,", [r"csv:7: 10 cells, but the header has 9"]),
        (
            "source_id,",
            "sourceid,",
            [r"csv:1: .*did you mean 'source_id'", "source_id are missing"],
        ),
        ("notes\n", "cost\n", [r"csv:1: the column 'cost' is there twice"]),
        ('"two', '"two"x', ["this is not CSV"]),
        (CSV, "", ["there is no header"]),
    ],
)
def test_a_wrong_csv_line_is_named_and_nothing_written(tmp_path, old, new, messages):
    path = tmp_path / "x.csv"
    path.write_text(CSV.replace(old, new, 1))
    with pytest.raises(DatasetError) as caught:
        add_records(tmp_path, read_csv(path))
    for message in messages:
        assert caught.match(message)
    assert not (tmp_path / "sources.json").exists()


def test_all_wrong_lines_are_said_at_once(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(CSV.replace("2025", "3025"))
    with pytest.raises(DatasetError) as caught:
        read_csv(path)
    assert all(f"x.csv:{line}:" in str(caught.value) for line in (2, 5, 6, 7))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read_csv(path)
    with pytest.raises(PathError, match="does not exist"):
        read_csv(tmp_path / "none.csv")
