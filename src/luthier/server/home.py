"""The folder that a server keeps everything in: whose it is, and what was left in it."""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path

from luthier.errors import RequestError
from luthier.server.http.auth import SECRET_BYTES

_LOG = logging.getLogger("luthier.server.home")
DATABASE_NAME, LINKS_NAME = "tasks.sqlite3", "links.secret"
ADAPTERS_NAME, WEBHOOKS_NAME = "lora.json", "webhooks.secret"
# What a server writes, whatever lay there under that name. Every server makes `LINKS_NAME`.
_WRITTEN = (LINKS_NAME, ADAPTERS_NAME, WEBHOOKS_NAME, "dataset/working.json")


def check_home(home: Path) -> None:
    """Refuse a folder in which files of others would be written over.

    Any other folder will do, full ones too: the server adds its own files to it, and removes
    nothing else.

    Raises:
        RequestError: a file of that kind is there, and nothing that says a server made it.
    """
    if (home / DATABASE_NAME).exists():
        return  # which is looked into when it is opened
    try:
        if (home / LINKS_NAME).stat().st_size == SECRET_BYTES:
            return
    except OSError:
        pass
    taken = next((name for name in _WRITTEN if os.path.lexists(home / name)), None)
    if taken is not None:
        raise RequestError(
            f"{home / taken} is there, and no server of luthier has written it: it would be "
            "written over. Choose another --home."
        )


def keep_journal(database: Path) -> None:
    """Set the journal of a database that was moved away aside: it belongs to that one, and SQLite
    would remove it. Only while nobody else uses the home.
    """
    journal = database.with_name(f"{database.name}-wal")
    try:
        is_left = journal.stat().st_size > 0
        is_left = is_left and not (database.exists() and database.stat().st_size)
    except OSError:
        return
    if is_left:
        aside = database.with_name(f"{database.stem}.{uuid.uuid4().hex[:8]}{database.suffix}-wal")
        os.replace(journal, aside)
        told = (
            "the database was moved away without its journal, which was set aside: to open that "
            "database, put it beside it under its name with -wal at the end."
        )
        _LOG.warning("journal kept", extra={"facts": {"file": str(aside), "told": told}})
