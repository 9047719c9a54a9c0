"""What was measured is kept by contents, and nothing that is broken is believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from luthier.evaluation.cache import MeasureCache, default_folder


class Counting:
    """Measures, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        self.calls += 1
        return np.arange(6.0).reshape(2, 3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    return path


def test_the_same_contents_are_measured_once(file: Path, tmp_path: Path) -> None:
    cache, measure = MeasureCache(tmp_path / "cache"), Counting()
    first = cache.get(file, "mel-stats-v1", measure)
    other = tmp_path / "b.wav"
    other.write_bytes(b"sound")  # another name, the same sound
    np.testing.assert_array_equal(cache.get(other, "mel-stats-v1", measure), first)
    assert measure.calls == 1
    cache.get(file, "clap:x@12/34", measure)
    assert measure.calls == 2
    file.write_bytes(b"another sound")
    cache.get(file, "mel-stats-v1", measure)
    assert measure.calls == 3


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"not an array at all"])
def test_a_damaged_entry_is_measured_again(file: Path, tmp_path: Path, damage: bytes) -> None:
    cache, measure = MeasureCache(tmp_path / "cache"), Counting()
    first = cache.get(file, "x", measure)
    entry = next((tmp_path / "cache").rglob("*.npy"))
    entry.write_bytes(damage)
    np.testing.assert_array_equal(cache.get(file, "x", measure), first)
    assert measure.calls == 2
    np.save(entry, np.array([1.0, np.nan]))
    cache.get(file, "x", measure)
    assert measure.calls == 3


def test_pickles_are_not_loaded(file: Path, tmp_path: Path) -> None:
    cache, measure = MeasureCache(tmp_path / "cache"), Counting()
    cache.get(file, "x", measure)
    entry = next((tmp_path / "cache").rglob("*.npy"))
    np.save(entry, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert cache.get(file, "x", measure).dtype == np.float64
    assert measure.calls == 2


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(file: Path) -> None:
    measure = Counting()
    assert MeasureCache(Path("/proc/nowhere")).get(file, "x", measure).shape == (2, 3)
    assert MeasureCache(None).get(file, "x", measure).shape == (2, 3)


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LUTHIER_CACHE_DIR", raising=False)
    assert default_folder() == Path.home() / ".cache" / "luthier" / "evaluation"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "luthier" / "evaluation"
    monkeypatch.setenv("LUTHIER_CACHE_DIR", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own" / "evaluation"
