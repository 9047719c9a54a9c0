"""Plays cells on a server that speaks ACE-Step's REST API: ours, or upstream's own.

`/release_task`, `/query_result` and `/v1/audio` are enough. What only our server tells (a model's
tasks, when a task began and ended) is asked for, and done without where it is not told.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.client.client import Client
from luthier.client.errors import ServerError
from luthier.client.transport import Transport
from luthier.errors import LuthierError, RequestError
from luthier.matrix.grid import Cell
from luthier.matrix.renderer import PlayError, Take, piece_paths
from luthier.music.templates import instruction_for
from luthier.provenance import write_run
from luthier.runtime.cancel import stop_if_asked

_SUCCEEDED, _FAILED = 1, 2
_ANSWER_S = 120.0
_PATIENCE_S = 60.0
_LOOK_S = 0.2
# With these the next cell would fare no better: there is no answer, no key, or no room.
_HOPELESS = (None, 401, 403, 429, 502, 503, 504)
_DEFAULT = "default"  # the name of a model that the server does not name
# our field → the field that both servers know
_NAMES = {
    "prompt": "prompt", "bpm": "bpm", "key": "key_scale", "time_signature": "time_signature",
    "duration_s": "audio_duration", "seed": "seed", "batch_size": "batch_size",
    "task": "task_type", "steps": "inference_steps", "repaint_start_s": "repainting_start",
    "repaint_end_s": "repainting_end",
}  # fmt: skip


class HttpPlayer:
    """Plays on the server at `address`.

    Args:
        address: such as http://127.0.0.1:8001.
        models: names of its models; empty for its default.
        key: what it wants to let anybody in.
        device: what the server's machine is called: a client cannot know.
        timeout_s: how long a cell may take, its wait included, seconds.
        patience_s: how long to try again when the server is not reached or full, seconds.

    Raises:
        RequestError: the server has no such model.
        LuthierError: the server does not answer, or wants a key.
    """

    def __init__(
        self,
        address: str,
        models: tuple[str, ...] = (),
        *,
        key: str | None = None,
        device: str | None = None,
        timeout_s: float = 3600.0,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._device, self._timeout_s = device, timeout_s
        self._client = Client(address, key, timeout_s=_ANSWER_S, patience_s=patience_s)
        self._http = Transport(
            self._client.server,
            key,
            timeout_s=_ANSWER_S,
            patience_s=patience_s,
            said=lambda _: None,
        )
        try:
            self._health = self._asked("/health") or {}
            self._tasks = self._models(models)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._http.close()

    @property
    def tasks(self) -> Mapping[str, tuple[str, ...] | None]:
        """Model → the tasks that the server says it does."""
        return self._tasks

    @property
    def environment(self) -> dict[str, Any]:
        """The server's address and version, and the name that its machine was given."""
        told = {name: self._health.get(name) for name in ("service", "version", "server")}
        return {
            "machine": {"name": self._device} if self._device else {},
            "server": {"address": self._client.server} | told,
            "provider": None,
            "threads": None,
            "models": {name: {} for name in self._tasks},
        }

    def play(
        self,
        cell: Cell,
        request: Mapping[str, Any],
        source: Path | None,
        folder: Path,
        cancel: threading.Event,
    ) -> Take:
        """Submit, ask until it has ended, download."""
        try:
            return self._played(cell, _fields(cell, request), source, folder, cancel)
        except ServerError as error:
            if error.status in _HOPELESS:
                raise LuthierError(
                    f"{error} When that is mended, the same command goes on where it was."
                ) from error
            raise PlayError(str(error)) from error

    def _played(
        self,
        cell: Cell,
        fields: Mapping[str, Any],
        source: Path | None,
        folder: Path,
        cancel: threading.Event,
    ) -> Take:
        began = time.monotonic()
        identity = self._submitted(fields, source)
        items = self._ended(identity, began, cancel)
        wall_s = time.monotonic() - began
        paths = piece_paths(cell, folder)
        if len(items) != len(paths):
            raise PlayError(f"the server made {len(items)} pieces instead of {len(paths)}.")
        for path, item in zip(paths, items, strict=True):
            self._client.download(str(item.get("file", "")), path)
            write_run(
                path,
                stage="matrix",
                inputs=[source] if source else [],
                config={"server": self._client.server, "request": dict(fields)},
            )
        worked_s = self._worked_s(identity)
        return Take(
            files=paths,
            seeds=tuple(_seed(item, index) for index, item in enumerate(items)),
            wall_s=round(wall_s if worked_s is None else worked_s, 3),
            timed_by="client" if worked_s is None else "server",
        )

    def _submitted(self, fields: Mapping[str, Any], source: Path | None) -> str:
        answer = self._http.call(
            "POST",
            "/release_task",
            body=fields,
            files={"src_audio": source} if source else None,
            headers={"Idempotency-Key": str(uuid.uuid4())},
        )
        data = answer["data"]
        if not isinstance(data, dict) or not data.get("task_id"):
            raise PlayError("the server took it without a task_id: is it ACE-Step's REST API?")
        return str(data["task_id"])

    def _ended(self, identity: str, began: float, cancel: threading.Event) -> list[dict[str, Any]]:
        while time.monotonic() - began < self._timeout_s:
            answer = self._http.call("POST", "/query_result", body={"task_id_list": [identity]})
            row = (answer["data"] or [{}])[0]
            items = json.loads(row.get("result") or "[]")
            if row.get("status") == _SUCCEEDED:
                return list(items)
            if row.get("status") == _FAILED:
                why = next((item.get("error") for item in items if item.get("error")), None)
                raise PlayError(why or "the server failed, and did not say why.")
            cancel.wait(_LOOK_S)
            stop_if_asked(cancel)
        raise PlayError(f"it was not ready after {self._timeout_s:g} s: give a longer --timeout.")

    def _models(self, wanted: tuple[str, ...]) -> dict[str, tuple[str, ...] | None]:
        told = self._asked("/v1/models") or {}
        found = {
            str(row["name"]): row.get("supported_task_types")
            for row in told.get("models", [])
            if isinstance(row, dict) and "name" in row
        }
        wanted = wanted or (str(told.get("default_model") or next(iter(found), _DEFAULT)),)
        for name in wanted:
            if found and name not in found:
                raise RequestError(f"the server has no model {name!r}: it has {', '.join(found)}.")
        return {name: tuple(found.get(name) or ()) or None for name in wanted}

    def _worked_s(self, identity: str) -> float | None:
        """How long the server worked on it, seconds, where it tells."""
        told = self._asked(f"/v1/tasks/{identity}") or {}
        began, ended = told.get("started"), told.get("ended")
        if isinstance(began, int | float) and isinstance(ended, int | float):
            return float(ended - began)
        return None

    def _asked(self, path: str) -> dict[str, Any] | None:
        """The data of an answer; None where the route is not there."""
        try:
            data = self._http.call("GET", path)["data"]
        except ServerError as error:
            if error.status in _HOPELESS:
                raise
            return None
        return data if isinstance(data, dict) else None


def _fields(cell: Cell, request: Mapping[str, Any]) -> dict[str, Any]:
    fields = {_NAMES[name]: value for name, value in request.items() if name in _NAMES}
    fields |= {
        "lyrics": "[Instrumental]" if request["instrumental"] else request["lyrics"],
        "thinking": False,
        "use_random_seed": False,
        "audio_format": "flac",
    }
    if cell.job.needs_source:
        fields["instruction"] = instruction_for(cell.job.task, cell.job.tracks)
    if cell.job.tracks:
        fields["track_name"] = ",".join(cell.job.tracks)
    if cell.model != _DEFAULT:
        fields["model"] = cell.model
    return fields


def _seed(item: Mapping[str, Any], index: int) -> int | None:
    """Of a piece; upstream tells those of the batch in one text."""
    if isinstance(item.get("seed"), int):
        return int(item["seed"])
    seeds = str(item.get("seed_value") or "").split(",")
    text = seeds[index].strip() if index < len(seeds) else ""
    return int(text) if text.isdecimal() else None
