"""Commands that are stopped by a signal, and what they leave."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from ctrl_c import heed_ctrl_c

LIMIT_S = 10.0
_MARK = "LUTHIER_TEST_MARK"


@dataclass(frozen=True)
class Stop:
    """How a command ended."""

    code: int
    out: str
    errors: str
    seconds: float  # from the signal to the end; the whole run where the process sent it itself

    @property
    def sentence(self) -> str:
        """What it said about the stop."""
        found = [line for line in self.errors.splitlines() if ": stopped " in line]
        assert len(found) == 1, self.errors + self.out
        return found[0]

    @property
    def way_on(self) -> list[str]:
        """The command that it says to go on with."""
        said = [line for line in (self.errors + self.out).splitlines() if "  luthier " in line]
        return shlex.split(re.split(r"  (?=luthier )", said[-1])[-1])


def environment(tmp: Path, mark: str) -> dict[str, str]:
    tmp.mkdir(parents=True, exist_ok=True)
    return os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp), _MARK: mark}


def stopped(
    tmp: Path,
    place: str,
    name: str,
    words: list[str],
    *,
    nth: int = 1,
    delay_s: float = 0.2,
    program: str = "luthier",
    at_most_s: float = 90.0,
) -> Stop:
    """Run `words`; the process gets the signal in the function at `place`. It must leave neither a
    process nor a temporary file.
    """
    mark = uuid.uuid4().hex
    script = Path(__file__).with_name("stop_at.py")
    command = [sys.executable, str(script), place, str(nth), str(delay_s), name, program, *words]
    started = time.monotonic()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=at_most_s,
        env=environment(tmp, mark),
        preexec_fn=heed_ctrl_c,
        check=False,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 128 + signal.Signals[name], done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert not living(mark)
    assert [path.name for path in tmp.iterdir() if path.name != ".ses"] == []  # onnxruntime's own
    return Stop(done.returncode, done.stdout, done.stderr, seconds)


def living(mark: str) -> list[int]:
    """The processes that a marked one has started; they get two seconds to end."""
    deadline = time.monotonic() + 2
    while found := _marked(mark):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return found


def _marked(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def temporaries(folder: Path) -> list[Path]:
    """What an interrupted writer would have left below `folder`."""
    return [path for path in folder.rglob(".*") if ".tmp" in path.name]
