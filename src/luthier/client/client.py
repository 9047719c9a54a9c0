"""The client: everything that a luthier server offers for music, as methods."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from luthier.client.address import checked_key, server_address
from luthier.client.answers import Model, Piece, RemoteTask, Submitted, model_of, submitted_of
from luthier.client.answers import task_of as read_task
from luthier.client.bodies import RESULT_LINK, body_of
from luthier.client.errors import ServerError
from luthier.client.following import Follower
from luthier.client.retrying import Patience
from luthier.client.transport import LOST, Transport
from luthier.files import atomic_file
from luthier.music.request import MusicRequest
from luthier.music.task_options import TaskOptions
from luthier.server.queue.task import State

_PAGE = 200


class Client:
    """A server's client; close it, or use it in a `with` block.

    What may still succeed is tried again, later and later: a full queue (the server says when to
    come back), a server that starts again, a lost connection. Sending a task twice is safe, because
    each has an idempotency key.

    Args:
        server: its address, say http://127.0.0.1:8001.
        key: where the server asks for one.
        timeout_s: how long a single read or write may take, seconds.
        patience_s: how long to try again, seconds.
        said: is told, in a sentence, why there is a pause.

    Raises (every method too):
        ServerError: the server refused (its sentence and status), failed, or was not reached.
    """

    def __init__(
        self,
        server: str,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 30.0,
        said: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._transport = Transport(
            server_address(server),
            None if key is None else checked_key(key),
            timeout_s=timeout_s,
            patience_s=patience_s,
            said=said,
        )
        self._patience_s = patience_s
        self._follower = Follower(self._transport, self.task)

    def __enter__(self) -> Client:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def server(self) -> str:
        """The server's address."""
        return self._transport.address

    def health(self) -> dict[str, Any]:
        """Whether the server is alive; needs no key."""
        return self._facts("/health")

    def capabilities(self) -> dict[str, Any]:
        """Models, limits, fields, recommended values, and the speed measured there."""
        return self._facts("/v1/capabilities")

    def stats(self) -> dict[str, Any]:
        """How busy the server is."""
        return self._facts("/v1/stats")

    def models(self) -> list[Model]:
        """The models; one of them is the default."""
        return [model_of(row) for row in self._data("GET", "/v1/models")["models"]]

    def submit(
        self,
        request: MusicRequest,
        options: TaskOptions | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Queue a task; its recordings are uploaded.

        Args:
            request: what to make. A `source_audio` or `reference_audio` that is a `Piece.file` is
                taken where it lies on the server.
            options: file format, model, planning.
            idempotency_key: the same key gives the same task again; a new one when it is left out.

        Raises:
            PathError: a recording is not there.
        """
        body, files = body_of(request, options)
        found = self._transport.call(
            "POST",
            "/release_task",
            body=body,
            files=files,
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        )
        return submitted_of(found["data"], found.get("extra"))

    def task(self, identity: str) -> RemoteTask:
        """One task as it is now."""
        return read_task(self._data("GET", _path(identity)))

    def tasks(self, state: State | None = None) -> Iterator[RemoteTask]:
        """All tasks, the newest first; those in one state with `state`."""
        before: int | None = None
        while True:
            said = {"state": state, "before": before}
            params = {"limit": _PAGE} | {k: v for k, v in said.items() if v is not None}
            page = self._data("GET", "/v1/tasks", params=params)
            yield from map(read_task, page["tasks"])
            before = page["next"]
            if before is None:
                return

    def follow(self, identity: str, timeout_s: float | None = None) -> Iterator[RemoteTask]:
        """A task as it is, at each change, and when it has ended.

        Raises:
            ServerError: also when it has not ended after `timeout_s` seconds; it goes on.
        """
        return self._follower.follow(identity, timeout_s)

    def wait(
        self,
        identity: str,
        on_change: Callable[[RemoteTask], None] = lambda _: None,
        timeout_s: float | None = None,
    ) -> RemoteTask:
        """Wait until a task has ended, however; raises what `follow` raises."""
        for task in self.follow(identity, timeout_s):
            on_change(task)
        return task

    def generate(
        self,
        request: MusicRequest,
        options: TaskOptions | None = None,
        on_change: Callable[[RemoteTask], None] = lambda _: None,
        timeout_s: float | None = None,
    ) -> RemoteTask:
        """Submit, wait, and return the succeeded task.

        Raises:
            ServerError: also when the task failed or was cancelled, with its sentence.
        """
        return succeeded(self.wait(self.submit(request, options).id, on_change, timeout_s))

    def cancel(self, identity: str) -> RemoteTask:
        """A waiting task ends at once, a running one at its next step."""
        return read_task(self._data("POST", _path(identity, "/cancel")))

    def retry(self, identity: str) -> RemoteTask:
        """Put a failed or cancelled task into the queue again, under the same id."""
        # Sent twice it would be refused the second time, so a loss is told and not hidden.
        path = _path(identity, "/retry")
        return read_task(self._data("POST", path, again_when_lost=False))

    def delete(self, identity: str) -> None:
        """Forget a task that is not running, and its files."""
        self._data("DELETE", _path(identity))

    def download(self, piece: Piece | str, path: Path) -> Path:
        """Write a piece to `path`; all of it, or nothing.

        Args:
            piece: or its `file`.

        Raises:
            PathError, StorageError: the disk refused.
        """
        file = piece if isinstance(piece, str) else piece.file
        if not file.startswith(RESULT_LINK):  # the key must not go elsewhere
            raise ServerError("the server named a file that is no result of its own.")
        patience = Patience(self._patience_s)
        with atomic_file(path) as temporary:
            while True:
                try:
                    self._fetch(file, temporary)
                except LOST as error:
                    pause = patience.pause()
                    if pause is None:
                        raise ServerError(f"the download was cut off: {error}.") from error
                    time.sleep(pause)
                else:
                    return path

    def _fetch(self, file: str, path: Path) -> None:
        with self._transport.stream(file) as response, path.open("wb") as out:
            kind = response.headers.get("content-type", "")
            if not kind.startswith("audio/"):
                raise ServerError(f"the server answered {kind or 'nothing'} where audio should be.")
            # A body that is shorter than its Content-Length is a loss, which httpx2 raises.
            for block in response.iter_bytes(2**18):
                out.write(block)

    def _facts(self, path: str) -> dict[str, Any]:
        return dict(self._data("GET", path))

    def _data(self, method: str, path: str, **more: Any) -> Any:
        return self._transport.call(method, path, **more)["data"]


def succeeded(task: RemoteTask) -> RemoteTask:
    """`task`, when it succeeded; else a `ServerError` with its sentence."""
    if task.state == "succeeded":
        return task
    raise ServerError(task.error or f"the task {task.id} was cancelled.")


def _path(identity: str, rest: str = "") -> str:
    return f"/v1/tasks/{quote(identity, safe='')}{rest}"
