"""The benchmarks' designs and pictures; the models they run are tested elsewhere."""

from __future__ import annotations

import importlib
import itertools
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from luthier.audio.keynames import ALL_KEYS, parse_key
from luthier.audio.tempo import Tempo
from luthier.files import write_json
from luthier.music.evaluation.adherence import check_key, check_tempo

ROOT = Path(__file__).parent.parent


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports a module of the benchmarks folder."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.mark.parametrize("design", ["tempo", "key"])
def test_a_design_covers_all_tempi_and_all_keys(benchmark: Any, design: str) -> None:
    rows = benchmark("adherence").requests(design, 10.0, 5)
    assert {row["key"] for row in rows} == {key.name for key in ALL_KEYS}
    tempi = sorted(row["bpm"] for row in rows)
    assert (tempi[0], tempi[-1], len(set(tempi))) == (60, 140, 24)
    assert len({row["seed"] for row in rows}) == 24
    # Tempo and key must not rise together, or one could stand for the other.
    order = [row["bpm"] for row in sorted(rows, key=lambda r: parse_key(r["key"]).tonic)]
    assert sum(a < b for a, b in itertools.pairwise(order)) < 20


@pytest.fixture
def results(benchmark: Any, tmp_path: Path) -> Path:
    """Results as the benchmark writes them: every third tempo and key is missed."""
    adherence: ModuleType = benchmark("adherence")
    tempi, keys = [], []
    for index, row in enumerate(adherence.requests("tempo", 10.0, 5)):
        bpm = row["bpm"] * (0.8 if index % 3 == 0 else 2 if index % 3 == 1 else 1)
        tempi.append(check_tempo(str(index), row["bpm"], Tempo(bpm, 0.5, ())))
        key = parse_key(row["key"])
        keys.append(check_key(str(index), row["key"], key.relative if index % 3 == 0 else key))
    designs = {
        "tempo": {"tempo": adherence.summary(tempi)},
        "key": {"key": adherence.summary(keys)},
    }
    value = {"model": "a & b", "tempo_tolerance": 0.04, "designs": designs}
    benchmark("common").write_result(tmp_path, "adherence", value)
    return tmp_path


def test_a_result_says_where_it_comes_from(results: Path) -> None:
    record = json.loads((results / "adherence.json").read_text())
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["cpu"]
    assert record["versions"]["numpy"]
    assert record["command"].startswith("python benchmarks/")
    assert record["date"][:2] == "20"


def test_the_pictures_show_every_check(
    benchmark: Any, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = results / "img"
    monkeypatch.setattr("sys.argv", ["plot.py", "--results", str(results), "--out", str(out)])
    benchmark("plot").main()
    for name in ("tempo", "keys"):
        picture = ET.parse(out / f"{name}.svg").getroot()
        kinds = [e.get("class") for e in picture.iter("{http://www.w3.org/2000/svg}circle")]
        assert (kinds.count("hit"), kinds.count("miss")) == (16, 8)
        assert "a & b" in (picture.get("aria-label") or "")
        assert (out / f"{name}.svg").stat().st_size < 150_000


def test_without_results_only_the_pipeline_is_drawn(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "other.json", {})
    monkeypatch.setattr("sys.argv", ["plot.py", "--results", str(tmp_path), "--out", str(tmp_path)])
    benchmark("plot").main()
    assert [p.name for p in tmp_path.glob("*.svg")] == ["pipeline.svg"]
    drawn = (tmp_path / "pipeline.svg").read_text()
    assert drawn == (ROOT / "docs" / "img" / "pipeline.svg").read_text()
