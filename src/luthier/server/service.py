"""What the routes work with: the queue, the keys, the models' facts, and how a task is accepted."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import RequestError, StorageError
from luthier.music.resolve import resolve
from luthier.music.spec import ModelSpec, load_spec
from luthier.server.answers import Answers
from luthier.server.auth import Keys, Links
from luthier.server.body import Body
from luthier.server.changes import Changes
from luthier.server.cleaning import Places
from luthier.server.config import ServerConfig
from luthier.server.fields import Asked, asked_from
from luthier.server.leases import Leases
from luthier.server.multipart import Limits
from luthier.server.paths import recording_named
from luthier.server.queue import Accepted, Queue

_LONGEST_KEY = 256
_UNPLANNED = {"thinking": False, "sample_mode": False, "sample_query": "", "use_format": False}


@dataclass(frozen=True)
class Said:
    """An accepted task, and what of its request was ignored or put right."""

    accepted: Accepted
    notes: tuple[str, ...]


class Service:
    """One server's parts.

    Raises:
        ModelError: a model's folder is not one.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config, self.places = config, Places(config.worker.home)
        self.specs: dict[str, ModelSpec] = {
            name: load_spec(folder) for name, folder in config.worker.models.items()
        }
        self.queue = Queue(self.places.database, limit=config.queue_limit, usual_s=config.usual_s)
        self.leases = Leases(
            self.queue, lease_s=config.worker.lease_s, most_attempts=config.worker.most_attempts
        )
        self.keys = Keys(config.keys)
        self.links = Links(config.worker.home / "links.secret", config.link_s)
        self.answers = Answers(self.links, signed=self.keys.are_needed)
        self.changes = Changes(self.queue)
        self.wake: Callable[[], None] = lambda: None

    @property
    def limits(self) -> Limits:
        """Of a request's body."""
        config = self.config
        return Limits(config.upload_bytes, config.upload_files, config.body_bytes)

    @property
    def has_planner(self) -> bool:
        """Whether there is a planner to think with."""
        return self.config.worker.planner is not None

    def accept(self, body: Body, key: str | None = None) -> Said:
        """Check what a body asks for, as far as that goes without its recordings, and queue it.

        Raises:
            RequestError: it asks for what is not allowed, or not there.
            QueueFullError, ReusedKeyError: as `Queue.submit`.
            StorageError: the disk has hardly any room.
        """
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise RequestError(f"an idempotency key has 1 to {_LONGEST_KEY} letters.")
        if shutil.disk_usage(self.places.home).free < self.config.free_bytes:
            raise StorageError("the server's disk is nearly full: try again later.")
        asked = self._with_model(asked_from(body.values, body.files, self._recording))
        digest = _digest(asked, body)
        accepted = self.queue.submit(
            {
                "kind": "music",
                "music": asked.music.model_dump(mode="json", exclude_unset=True),
                "options": asked.options.model_dump(mode="json", exclude_unset=True),
            },
            idempotency_key=key,
            digest=digest,
            uploads=body.folder.name if body.folder else None,
        )
        body.keep = accepted.is_new
        self.wake()
        return Said(accepted, asked.notes)

    def accept_format(self, plan: dict[str, Any]) -> Accepted:
        """Queue the rewriting of a caption and lyrics."""
        accepted = self.queue.submit({"kind": "format", "plan": plan})
        self.wake()
        return accepted

    def _recording(self, named: str) -> Path:
        return recording_named(named, self.config.audio_roots, self.places.results)

    def _with_model(self, asked: Asked) -> Asked:
        music, options, notes = asked
        name = options.model
        if name is not None and name not in self.specs:
            known = ", ".join(self.specs)
            used = self.config.worker.default_model
            notes += (f"there is no model {name[:64]!r} (there are {known}): {used} was taken.",)
            name = None
        spec = self.specs[name or self.config.worker.default_model]
        resolve(music, spec)
        if options.needs_planner and music.task != "text2music":
            options = options.model_copy(update=_UNPLANNED)
            notes += (f"the task {music.task} follows its source: the planner was left out.",)
        elif options.needs_planner and not self.has_planner:
            raise RequestError(
                "thinking, sample_mode, sample_query and use_format need a planner, and this "
                "server has none: leave them out, or start it with --lm-model-path."
            )
        return Asked(music, options.model_copy(update={"model": name}), notes)


def _digest(asked: Asked, body: Body) -> str:
    """What a request is, wherever its uploads were put."""
    music = asked.music.model_dump(mode="json", exclude=set(body.digests))
    parts = [music, asked.options.model_dump(mode="json"), body.digests]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
