"""Webhooks that are still to be told, as rows beside the tasks: a restart forgets none."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from luthier.errors import RequestError
from luthier.files import make_folder
from luthier.server.queue.clock import Uptime
from luthier.server.queue.database import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS webhooks (
    task_id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 1,
    error TEXT
);
CREATE INDEX IF NOT EXISTS webhooks_pending ON webhooks (due) WHERE pending;
"""
_FIRST_S, _FACTOR, _LONGEST_S = 5.0, 4, 3600.0
MOST_ATTEMPTS = 8  # over about two hours
_PREFIX = "whsec_"  # as the secrets of Standard Webhooks are written


@dataclass(frozen=True)
class Due:
    """A webhook whose task has ended and whose moment has come."""

    task_id: str
    url: str
    attempts: int


class Webhooks:
    """The rows of one database.

    Args:
        first_s: the pause after the first failure, seconds; each later one is four times as long.
        uptime: what pauses are measured by; of the same home when left out.
    """

    def __init__(
        self, store: Store, *, first_s: float = _FIRST_S, uptime: Uptime | None = None
    ) -> None:
        self._store, self._first_s = store, first_s
        self._uptime = uptime or Uptime(store)
        latest = self._uptime.now() + _LONGEST_S
        with store.transaction() as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            # Moments of the calendar, as earlier versions wrote them.
            connection.execute("UPDATE webhooks SET due = 0 WHERE due > ?", (latest,))

    def add(self, task_id: str, url: str) -> None:
        """Tell `url` when the task has ended; a second call changes nothing."""
        with self._store.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO webhooks (task_id, url) VALUES (?, ?)", (task_id, url)
            )

    def rearm(self, task_id: str) -> None:
        """The task is tried again: tell its next end too."""
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE webhooks SET pending = 1, attempts = 0, due = 0 WHERE task_id = ?",
                (task_id,),
            )

    def due(self, limit: int) -> list[Due]:
        """Those to be told now, the longest overdue first."""
        rows = self._store.rows(
            "SELECT w.* FROM webhooks w JOIN tasks t ON t.id = w.task_id WHERE w.pending "
            "AND w.due <= ? AND t.state NOT IN ('queued', 'running') ORDER BY w.due LIMIT ?",
            (self._uptime.now(), limit),
        )
        return [Due(str(row["task_id"]), str(row["url"]), int(row["attempts"])) for row in rows]

    def delivered(self, due: Due) -> None:
        """It was told."""
        self._settle(due, error=None)

    def given_up(self, due: Due, error: str) -> None:
        """It will not be told."""
        self._settle(due, error=error)

    def failed(self, due: Due, error: str) -> bool:
        """It was not told: later again. False when that was the last attempt."""
        if due.attempts + 1 >= MOST_ATTEMPTS:
            self.given_up(due, error)
            return False
        pause = min(_LONGEST_S, self._first_s * _FACTOR**due.attempts)
        later = self._uptime.now() + pause
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE webhooks SET attempts = attempts + 1, due = ?, error = ? "
                "WHERE task_id = ? AND pending",
                (later, error, due.task_id),
            )
        return True

    def forget_gone(self) -> None:
        """Drop the rows of tasks that are there no more."""
        with self._store.transaction(durable=False) as connection:
            connection.execute("DELETE FROM webhooks WHERE task_id NOT IN (SELECT id FROM tasks)")

    def _settle(self, due: Due, error: str | None) -> None:
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE webhooks SET pending = 0, attempts = attempts + 1, error = ? "
                "WHERE task_id = ?",
                (error, due.task_id),
            )


class Signer:
    """Signs what is told, so that its receiver knows who says it, and when.

    The format is Standard Webhooks 1.0 (standardwebhooks.com): HMAC-SHA256 over id, timestamp and
    body.

    Args:
        secret_file: `whsec_` and base64; made where it is missing, readable by its owner only.

    Raises:
        RequestError: the file holds something else.
    """

    def __init__(self, secret_file: Path) -> None:
        self._secret = _secret(secret_file)

    def headers(self, identity: str, body: bytes, now: float | None = None) -> dict[str, str]:
        """The headers that go with `body`."""
        moment = str(int(time.time() if now is None else now))
        signed = b".".join((identity.encode(), moment.encode(), body))
        digest = hmac.new(self._secret, signed, hashlib.sha256).digest()
        return {
            "webhook-id": identity,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }


def message(task: dict[str, Any]) -> tuple[str, bytes]:
    """The id and body that tell of a task which has ended, in the shape of `/v1/tasks/{id}`.

    The id is the same for each attempt, and another one when the task was tried again.
    """
    ended = task["ended"] or task["created"]
    when = datetime.fromtimestamp(ended, UTC).isoformat(timespec="milliseconds")
    said = {"type": f"task.{task['state']}", "timestamp": when, "data": task}
    return f"{task['task_id']}.{int(ended * 1000)}", json.dumps(said, ensure_ascii=False).encode()


def _secret(path: Path) -> bytes:
    make_folder(path.parent)
    try:
        with open(path, "xb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(_PREFIX.encode() + base64.b64encode(secrets.token_bytes(32)))
    except FileExistsError:
        pass
    try:
        text = path.read_text(encoding="ascii").strip()
        found = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        if not text.startswith(_PREFIX) or len(found) < 16:
            raise ValueError
    except ValueError:  # its subclasses too: no base64, no ASCII
        raise RequestError(
            f"{path} is no secret for webhooks: write {_PREFIX} and at least 16 bytes in base64, "
            "or remove it to get a new one."
        ) from None
    return found
