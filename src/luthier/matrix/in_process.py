"""Plays cells on this machine, each in a fresh process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from luthier.errors import StorageError
from luthier.files import sha256_of
from luthier.matrix.grid import Cell
from luthier.matrix.machine import GpuMemory, machine
from luthier.matrix.renderer import PlayError, Take, piece_paths
from luthier.music.spec import load_spec
from luthier.runtime.cancel import stop_if_asked
from luthier.runtime.manifest import MANIFEST_NAME
from luthier.runtime.providers import provider_named

_LAST_CHARACTERS = 2000
_LOOK_S = 0.2


class ProcessPlayer:
    """Plays models of this machine.

    Args:
        models: name → folder of exported graphs.
        threads, provider, memory_limit: as for `luthier generate`.
        device: what to call the machine, where its processor's name says too little.
        timeout_s: how long a cell may take, seconds.

    Raises:
        ModelError: a folder is no model.
        RequestError: the provider is not there.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        *,
        threads: int | None = None,
        provider: str = "auto",
        memory_limit: int | None = None,
        device: str | None = None,
        timeout_s: float = 3600.0,
    ) -> None:
        self._models = dict(models)
        self._specs = {name: load_spec(folder) for name, folder in models.items()}
        self._settings = {"threads": threads, "provider": provider, "memory_limit": memory_limit}
        self._timeout_s, self._device = timeout_s, device
        self._provider = provider_named(provider)
        self._hashes = {n: sha256_of(folder / MANIFEST_NAME) for n, folder in models.items()}

    @property
    def tasks(self) -> dict[str, tuple[str, ...] | None]:
        """Model → the tasks that it was trained for."""
        return {name: spec.tasks for name, spec in self._specs.items()}

    @property
    def environment(self) -> dict[str, Any]:
        """This machine, and the models by their manifests."""
        return {
            "machine": ({"name": self._device} if self._device else {}) | machine(),
            "server": None,
            "provider": self._provider,
            "threads": self._settings["threads"],
            "models": {name: {"manifest_sha256": self._hashes[name]} for name in self._models},
        }

    def play(
        self,
        cell: Cell,
        request: Mapping[str, Any],
        source: Path | None,
        folder: Path,
        cancel: threading.Event,
    ) -> Take:
        """Play in a process of its own."""
        paths = piece_paths(cell, folder)
        job = self._settings | {
            "folder": str(self._models[cell.model]),
            "request": dict(request) | ({"source_audio": str(source)} if source else {}),
            "paths": [str(path) for path in paths],
        }
        with GpuMemory.watched() as gpu:
            told = self._told(job, cancel)
        if told.get("kind") == "StorageError":
            raise StorageError(told["error"])
        if "error" in told:
            raise PlayError(told["error"])
        return Take(
            files=paths,
            seeds=tuple(told["seeds"]),
            wall_s=told["wall_s"],
            timed_by="process",
            load_s=told["load_s"],
            peak_bytes=told["peak_bytes"],
            gpu_peak_bytes=gpu.peak_bytes,
        )

    def _told(self, job: Mapping[str, Any], cancel: threading.Event) -> dict[str, Any]:
        command = [sys.executable, "-m", "luthier.matrix.child"]
        # Files, not pipes: nobody has to read while the process writes.
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
            # In a session of its own Ctrl-C does not reach it: `cancel` does.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=errors,
                start_new_session=True,
            )
            assert process.stdin is not None
            try:
                with suppress(BrokenPipeError):  # it died at once: its status says why
                    process.stdin.write(json.dumps(job).encode() + b"\n")
                    process.stdin.flush()
                status = self._ended(process, cancel)
            finally:
                process.kill()
                process.wait()
                process.stdin.close()
            lines = _text(said).splitlines()
            if status == 0 and lines:
                told: dict[str, Any] = json.loads(lines[-1])
                return told
            raise PlayError(how_it_ended(status, _text(errors)))

    def _ended(self, process: subprocess.Popen[bytes], cancel: threading.Event) -> int:
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            stop_if_asked(cancel)
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_S)
        raise PlayError(
            f"it was not ready after {self._timeout_s:g} s and was stopped: give a longer "
            "--timeout, or a smaller request."
        )


def _text(stream: IO[bytes]) -> str:
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _LAST_CHARACTERS))
    return stream.read().decode(errors="replace").strip()


def how_it_ended(status: int, errors: str) -> str:
    """A sentence on a process that told nothing: its exit status, and what it wrote last."""
    if status < 0:
        name = signal.Signals(-status).name
        why = ": most likely there was not enough memory" if name == "SIGKILL" else ""
        return f"the process that played it was ended by {name}{why}."
    last = errors.splitlines()[-1] if errors else "it said nothing"
    return f"the process that played it failed with status {status}: {last}."
