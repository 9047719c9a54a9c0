"""What the routes work with: the queue, the keys, the models' facts, and how a task is accepted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from luthier.errors import LuthierError, RequestError, StorageError
from luthier.music.planner.request import PlanRequest
from luthier.music.request import MusicRequest
from luthier.music.resolve import resolve
from luthier.music.spec import ModelSpec, load_spec
from luthier.music.task_options import TaskOptions
from luthier.server.acestep.answers import Answers
from luthier.server.acestep.dataset_jobs import DatasetTasks
from luthier.server.acestep.datasets import Datasets
from luthier.server.acestep.lora_catalogue import Adapters
from luthier.server.acestep.release_fields import Asked, asked_from
from luthier.server.acestep.traits import traits_of
from luthier.server.config import ServerConfig
from luthier.server.home import ADAPTERS_NAME, LINKS_NAME, check_home, keep_journal
from luthier.server.http.auth import Keys, Links
from luthier.server.http.body import Body
from luthier.server.http.errors import NotReadyError
from luthier.server.http.hiding import without_folders
from luthier.server.http.metrics import Metrics
from luthier.server.http.multipart import Limits
from luthier.server.http.paths import recording_named
from luthier.server.jobs.service import JobDesk
from luthier.server.queue.clock import Uptime
from luthier.server.queue.disk import Disk
from luthier.server.queue.eta import Outlook
from luthier.server.queue.inventory import Inventory
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Accepted, New, Queue, Traits
from luthier.server.queue.retention import Places
from luthier.server.queue.task_events import Changes
from luthier.server.webhooks.allowed_hosts import WebhookHosts
from luthier.server.webhooks.outbox import Webhooks

_LOG = logging.getLogger("luthier.server.service")
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
        RequestError: the home holds files of others where the server would write.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config, self.places = config, Places(config.worker.home)
        check_home(self.places.home)
        keep_journal(self.places.database)
        self.specs: dict[str, ModelSpec] = {
            name: load_spec(folder) for name, folder in config.worker.models.items()
        }
        self.adapters = Adapters(
            config.lora_roots, config.worker.models, config.worker.home / ADAPTERS_NAME
        )
        self.queue = Queue(self.places.database, limit=config.queue_limit, usual_s=config.usual_s)
        self.inventory = Inventory(self.queue.store)
        self.uptime = Uptime(self.queue.store)
        self.leases = Leases(
            self.queue, lease_s=config.worker.lease_s, most_attempts=config.worker.most_attempts
        )
        self.keys = Keys(config.keys)
        self.links = Links(config.worker.home / LINKS_NAME, config.link_s, self.keys)
        self.outlook = Outlook(self.queue, config.workers)
        self.answers = Answers(self.links, self.outlook, signed=self.keys.are_needed)
        self.changes = Changes(self.queue)
        self.webhook_hosts = WebhookHosts(config.webhook_hosts)
        self.webhooks = Webhooks(self.queue.store, uptime=self.uptime)
        self.desk = JobDesk(
            self.queue.store, config.worker.home / "jobs", config.data_roots, config.training_jobs
        )
        self.datasets = Datasets(config.worker.home / "dataset", self.desk.jobs)
        self.dataset_tasks = DatasetTasks(self.datasets, self.desk)
        self.disk = Disk(self.places.home)
        self.metrics = Metrics(self.leases, self.places, lambda: self.restarts())
        self.started = time.time()
        # What plays where nobody names a model; `/v1/init` may change it.
        self.default_model = config.worker.default_model
        self.wake: Callable[[], None] = lambda: None
        self.restarts: Callable[[], int] = lambda: 0
        self.renew: Callable[[], bool] = lambda: False

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
        asked, new = self._checked(body, key)
        return self._welcomed(body, asked, self.queue.submit_soon(new).result())

    async def accept_soon(self, body: Body, key: str | None = None) -> Said:
        """The same on the event loop: a lean way in, with no thread of its own for each."""
        if self.adapters.are_offered:  # which may be read for the first time
            asked, new = await run_in_threadpool(self._checked, body, key)
        else:
            asked, new = self._checked(body, key)
        accepted = await asyncio.wrap_future(self.queue.submit_soon(new))
        if asked.options.webhook is not None:
            return await run_in_threadpool(self._welcomed, body, asked, accepted)
        return self._welcomed(body, asked, accepted)

    def _checked(self, body: Body, key: str | None) -> tuple[Asked, New]:
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise RequestError(f"an idempotency key has 1 to {_LONGEST_KEY} letters.")
        if self.disk.free_bytes < self.config.free_bytes:
            raise StorageError("the server's disk is nearly full: try again later.")
        asked, resolved = self._with_model(
            asked_from(body.values, body.files, self._recording, self.adapters.asked)
        )
        webhook = asked.options.webhook
        if webhook is not None:
            self.webhook_hosts.check(webhook)
        request = {
            "kind": "music",
            "music": asked.music.model_dump(mode="json", exclude_unset=True),
            "options": asked.options.model_dump(
                mode="json", exclude_unset=True, exclude={"webhook"}
            ),
        }
        model = asked.options.model or self.config.worker.default_model
        return asked, New(
            request,
            traits_of(resolved, asked.options, model, body.client),
            idempotency_key=self._own(key, body.client),
            digest=_digest(asked, body) if key is not None else "",
            uploads=body.folder.name if body.folder else None,
        )

    def told(self, error: LuthierError) -> str:
        """What a client reads of an error."""
        config = self.config
        roots = (*config.audio_roots, *config.lora_roots, *config.data_roots)
        return without_folders(
            str(error), [config.worker.home, *roots, *config.worker.models.values()]
        )

    def _own(self, key: str | None, client: str) -> str | None:
        """An idempotency key of this client: two who count from 1 do not get each other's tasks."""
        return f"{client}: {key}" if key is not None and self.keys.are_needed else key

    def _welcomed(self, body: Body, asked: Asked, accepted: Accepted) -> Said:
        if asked.options.webhook is not None:
            self.webhooks.add(accepted.task.id, asked.options.webhook)
        body.keep = accepted.is_new
        self._log(asked, accepted, body.client)
        self.wake()
        return Said(accepted, asked.notes)

    def _log(self, asked: Asked, accepted: Accepted, client: str) -> None:
        """One line; what was asked for only where that is wanted."""
        music = asked.music
        facts = {"task": accepted.task.id, "client": client, "kind": music.task}
        if self.config.log_prompts:
            facts |= {"prompt": music.prompt, "lyrics": music.sung}
        _LOG.info("accepted", extra={"facts": facts})

    def accept_plan(self, plan: PlanRequest) -> Accepted:
        """Queue what only the planner has to do.

        Raises:
            NotReadyError: there is no planner.
            QueueFullError: as `Queue.submit`.
        """
        if not self.has_planner:
            raise NotReadyError("this server has no planner: start it with --lm-model-path.")
        said = plan.model_dump(mode="json", exclude_unset=True)
        accepted = self.queue.submit({"kind": "plan", "plan": said}, Traits(kind="plan"))
        self.wake()
        return accepted

    def accept_opening(self, model: str, *, planner: bool) -> Accepted:
        """Queue the opening of a model, and of the planner, by the worker whose turn it is.

        Raises:
            QueueFullError: as `Queue.submit`.
        """
        accepted = self.queue.submit(
            {"kind": "open", "model": model, "planner": planner}, Traits(kind="open", model=model)
        )
        self.wake()
        return accepted

    def _recording(self, named: str) -> Path:
        return recording_named(named, self.config.audio_roots, self.places.results)

    def _with_model(self, asked: Asked) -> tuple[Asked, MusicRequest]:
        music, options, notes = asked
        name = options.model
        if name is not None and name not in self.specs:
            known = ", ".join(self.specs)
            used = self.default_model
            notes += (f"there is no model {name[:64]!r} (there are {known}): {used} was taken.",)
            name = None
        if name is None and self.default_model != self.config.worker.default_model:
            name = self.default_model
        spec = self.specs[name or self.default_model]
        music, told = self.adapters.pinned(music, name or self.default_model)
        notes += told
        resolved = resolve(music, spec)
        _check_heard(music, options)
        if options.needs_planner and not options.hears and music.task != "text2music":
            options = options.model_copy(update=_UNPLANNED)
            notes += (f"the task {music.task} follows its source: the planner was left out.",)
        elif options.needs_planner and not self.has_planner:
            raise RequestError(
                "thinking, sample_mode, sample_query, use_format, analysis_only and "
                "full_analysis_only need a planner, and this server has none: leave them out, or "
                "start it with --lm-model-path."
            )
        return Asked(music, options.model_copy(update={"model": name}), notes), resolved


def _check_heard(music: MusicRequest, options: TaskOptions) -> None:
    if options.hears in ("codes", "source") and music.source_audio is None:
        raise RequestError(
            "extract_codes_only and full_analysis_only hear a recording: upload it as src_audio, "
            "or name it with src_audio_path."
        )


def _digest(asked: Asked, body: Body) -> str:
    """What a request is, wherever its uploads were put."""
    music = asked.music.model_dump(mode="json", exclude=set(body.digests))
    parts = [music, asked.options.model_dump(mode="json"), body.digests]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
