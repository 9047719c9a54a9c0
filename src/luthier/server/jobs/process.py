"""Child processes that outlive the server: started in a group of their own, found again by pid and
start time.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROCESSES = Path("/proc/self").parent  # of Linux
# In a job's folder: how its command ended, and which process it is.
EXIT_NAME, PROCESS_NAME = "exit.json", "process.json"
_SECRETS = ("ACESTEP_API_KEY", "LUTHIER_API_KEY", "LUTHIER_WEBHOOK_SECRET")


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    born: str


def started(command: Sequence[str], out: Path, errors: Path) -> Process:
    """Start `command` without a shell, its output going to files; it leads its own group.

    It knows none of the server's keys.

    Raises:
        OSError: it cannot be started.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        list(command),
        environment(os.environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(out), flags, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, str(errors), append, 0o600),
        ],
        setpgroup=0,
    )
    return Process(pid, born_of(pid) or "")


def environment(whole: Mapping[str, str]) -> dict[str, str]:
    """What a child may know of the server's environment."""
    return {name: value for name, value in whole.items() if name not in _SECRETS}


def is_running(process: Process) -> bool:
    """Whether it has not ended; one of our own that has is laid to rest."""
    with suppress(ChildProcessError):  # of a server before this one
        if os.waitpid(process.pid, os.WNOHANG)[0] == process.pid:
            return False
    return bool(process.born) and born_of(process.pid) == process.born


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to the whole group, if the process is still the one that is meant."""
    if is_running(process):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def born_of(pid: int) -> str | None:
    """When a process was started, in the system's own words; None when it is not there."""
    if _PROCESSES.is_dir():
        try:
            text = (_PROCESSES / str(pid) / "stat").read_text()
        except OSError:
            return None
        # The name in brackets may hold anything; behind it the state, and 19 fields on the start.
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else fields[19]
    return _born_by_ps(pid)


def _born_by_ps(pid: int) -> str | None:
    done = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None
