"""The benchmark of growth, small: every row is measured, and a longer model plays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import tiny_onnx

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_every_row_is_measured(tmp_path: Path) -> None:
    words = ["--durations", "1,70", "--batches", "1,2", "--steps", "1", "--out", str(tmp_path)]
    subprocess.run(
        [sys.executable, BENCHMARKS / "growth.py", *words, "--model", str(tiny_onnx())], check=True
    )
    rows = json.loads((tmp_path / "growth.json").read_text())["rows"]
    assert [(row["what"], row["duration_s"], row.get("batch")) for row in rows] == [
        ("decode", 70, None),  # beyond the tiny model's own 60 seconds
        ("generate", 1, 2),
        ("generate", 1, 1),
        ("generate", 70, 1),
    ]
    assert not [row for row in rows if "failed" in row]
    assert all(row["peak_rss_mb"] > 0 for row in rows)
