"""The Python example runs against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from luthier.audio.decode import read_audio
from serving import KEY, Running

EXAMPLE = Path(__file__).parents[2] / "examples" / "api" / "take.py"


def test_the_example_makes_two_takes(server: Running, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), server.address],
        cwd=tmp_path,
        env=os.environ | {"LUTHIER_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["take.wav", "take2.wav"]
    first, second = (read_audio(tmp_path / name)[0] for name in ("take.wav", "take2.wav"))
    assert first.shape == second.shape
    rate = first.shape[1] // 4
    assert abs(first[:, : int(1.4 * rate)] - second[:, : int(1.4 * rate)]).max() < 1e-3
    assert abs(first[:, int(1.6 * rate) : int(2.4 * rate)]
               - second[:, int(1.6 * rate) : int(2.4 * rate)]).max() > 1e-2  # fmt: skip
