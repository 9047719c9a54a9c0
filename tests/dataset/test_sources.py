from __future__ import annotations

import json

import pytest

from luthier.dataset.sources import load_sources, record_of, require_licences
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
    path.write_text(json.dumps(list(rows)))
    return load_sources(path)


def test_licences_of_allowed_tracks(tmp_path):
    sources = load(
        tmp_path, record(), record(source_id="two", track_ids=["c"], license_type="CC-BY-4.0")
    )
    assert require_licences(["c", "a", "b"], sources) == ["CC-BY-4.0", "CC0-1.0"]
    assert require_licences(["a"], sources) == ["CC0-1.0"]


def test_every_refused_track_is_listed(tmp_path):
    row = record(source_id="no", track_ids=["c"])
    del row["ai_training_allowed"]
    with pytest.raises(LicenceError) as caught:
        require_licences(["a", "c", "x"], load(tmp_path, record(), row))
    assert caught.value.exit_code == 3
    assert "2 tracks" in str(caught.value)
    assert "c (no does not allow AI training), x (no source record)" in str(caught.value)


def test_a_record_that_forbids_wins(tmp_path):
    sources = load(tmp_path, record(), record(source_id="no", ai_training_allowed=False))
    assert record_of("a", sources).source_id == "no"
    with pytest.raises(LicenceError):
        require_licences(["a"], sources)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (record(source_type="commissioned"), "needs its cost"),
        (record(date_acquired="2999-01-01"), "in the future"),
        (record(source_type="found"), "record 1 own: source_type"),
        (record(licence="x"), "licence"),
        ("text", "record 1"),
    ],
)
def test_a_wrong_record_is_said(tmp_path, row, message):
    with pytest.raises(DatasetError, match=message):
        load(tmp_path, row)


def test_a_wrong_file_is_said(tmp_path):
    path = tmp_path / "sources.json"
    path.write_text("{}")
    with pytest.raises(DatasetError, match="JSON array"):
        load_sources(path)
    path.write_text("[")
    with pytest.raises(PathError, match="not valid JSON"):
        load_sources(path)
