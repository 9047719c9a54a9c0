"""The record of the folders that a server makes in its home, as rows of its database.

A folder is on record before it is made. What is not on record is not this server's: it is never
deleted, whatever it is called and however old it is. With the database the record is gone too, and
everything stays.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

Place = Literal["results", "uploads", "jobs", "dataset"]
# `made`: may be half-written. `kept`: somebody needs it. `doomed`: to be removed.
TABLE = (
    "CREATE TABLE IF NOT EXISTS folders (place TEXT NOT NULL, name TEXT NOT NULL, "
    "root TEXT NOT NULL, owner TEXT, run TEXT, files TEXT NOT NULL, state TEXT NOT NULL, "
    "PRIMARY KEY (place, name)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS folders_by_state ON folders (state)",
    "CREATE INDEX IF NOT EXISTS folders_by_owner ON folders (owner)",
)
# The names in them are patterns of `fnmatch`.
UPLOADED = ("source_audio*", "reference_audio*", ".source_audio.*", ".reference_audio.*")
_PUT = (
    "INSERT INTO folders (place, name, root, owner, run, files, state) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (place, name) DO UPDATE SET owner = excluded.owner, files = excluded.files, "
    "state = excluded.state"
)


def written(*names: str) -> tuple[str, ...]:
    """Patterns of JSON files that are written whole, and of what a kill leaves of them."""
    return (*names, *(f".{Path(name).stem}.????????.tmp.json" for name in names))


def root_of(home: Path, place: Place) -> str:
    """Where a place of the home really lies, if it is a link; "" when it is a plain folder.

    What was made behind one link is not looked for behind another.
    """
    folder = home / place
    return os.path.realpath(folder) if folder.is_symlink() else ""


def home_of(connection: sqlite3.Connection) -> Path:
    """The folder that a connection's database lies in."""
    return Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent


def note(
    connection: sqlite3.Connection,
    place: Place,
    name: str,
    *,
    owner: str | None,
    state: Literal["made", "kept", "doomed"],
    files: Collection[str] = (),
    run: str | None = None,
) -> None:
    """Put a folder on record.

    Args:
        name: below the place.
        owner: the task or job that it belongs to.
        files: the names (patterns) of what this server writes into it.
        run: the run of the server that makes it, where no other may go on with it.
    """
    root = root_of(home_of(connection), place)
    connection.execute(_PUT, (place, name, root, owner, run, json.dumps([*files]), state))


def note_uploads(connection: sqlite3.Connection, owner: str, name: str, request: Any) -> None:
    """A task was accepted with the uploads in the folder `name`."""
    music = request.get("music") if isinstance(request, Mapping) else None
    named = music.values() if isinstance(music, Mapping) else ()
    own = {Path(p).name for p in named if isinstance(p, str) and Path(p).parent.name == name}
    note(connection, "uploads", name, owner=owner, state="kept", files=[*UPLOADED, *sorted(own)])


def note_result(connection: sqlite3.Connection, owner: str, result: Any) -> None:
    """A task has succeeded: its result stays, its uploads may go."""
    connection.execute(
        "UPDATE folders SET state = 'doomed' WHERE owner = ? AND place = 'uploads'", (owner,)
    )
    folder = result.get("folder") if isinstance(result, Mapping) else None
    if isinstance(folder, str) and folder:
        note(
            connection,
            "results",
            f"{owner}/{folder}",
            owner=owner,
            state="kept",
            files=_files_of(result),
        )


def doom(connection: sqlite3.Connection, owners: Iterable[str]) -> None:
    """What belongs to these may be removed."""
    connection.executemany(
        "UPDATE folders SET state = 'doomed' WHERE owner = ?", [(owner,) for owner in owners]
    )


def adopt(connection: sqlite3.Connection) -> None:
    """Put on record what the tasks of an earlier version say that was made for them."""
    rows = connection.execute(
        "SELECT id, state, request, result, uploads FROM tasks "
        "WHERE uploads IS NOT NULL OR state = 'succeeded'"
    ).fetchall()
    for identity, state, request, result, uploads in rows:
        if uploads is not None:
            note_uploads(connection, str(identity), str(uploads), _object(request))
        if state == "succeeded":
            note_result(connection, str(identity), _object(result))


def _files_of(result: Mapping[str, Any]) -> list[str]:
    """The files of a result: each piece, and the record beside it."""
    pieces = result.get("pieces")
    rows = pieces if isinstance(pieces, list) else []
    names = [row["path"] for row in rows if isinstance(row, Mapping) and "path" in row]
    return [name for path in map(str, names) for name in (path, f"{path}.run.json")]


def _object(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
