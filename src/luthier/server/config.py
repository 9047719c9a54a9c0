"""What a server is started with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from luthier.server.webhooks.allowed_hosts import AllowedHost

if TYPE_CHECKING:
    from luthier.server.schemas.health import Explored

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker process needs to know; it goes to it as JSON.

    Attributes:
        home: the server's folder.
        models: folders of exported graphs by name; the first one is the default.
        planner: the folder of an exported planner, if there is one.
        threads: of ONNX Runtime; None for all cores.
        provider: where to run: cpu, cuda, coreml, directml, or auto.
        memory_limit: bytes of open graphs; None for no limit.
        lease_s: how long a worker that is not heard of keeps its task, seconds.
        most_attempts: how often a task is begun.
        engine: where workers play: in their own "process", or in actors of "ray".
        ray_address: of the cluster ("auto": the one of this machine; "local": one of its own).
    """

    home: Path
    models: dict[str, Path]
    planner: Path | None = None
    threads: int | None = None
    provider: str = "auto"
    memory_limit: int | None = None
    lease_s: float = 30.0
    most_attempts: int = 3
    engine: Literal["process", "ray"] = "process"
    ray_address: str = "auto"

    @property
    def default_model(self) -> str:
        """The name of the model that does what names no other."""
        return next(iter(self.models))

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> WorkerSetup:
        """The setup that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values["home"] = Path(values["home"])
        values["models"] = {name: Path(folder) for name, folder in values["models"].items()}
        values["planner"] = values["planner"] and Path(values["planner"])
        return cls(**values)


@dataclass(frozen=True)
class ServerConfig:
    """Everything else: who may come in, and how much of everything there may be.

    Attributes:
        keys: any of these lets a client in; none at all lets in everybody.
        hosts: names in the Host header that are answered; empty for any.
        origins: web origins that may call, beside those of this machine's own pages.
        audio_roots: folders below which a request may name recordings.
        lora_roots: folders below which adapters lie.
        workers: how many worker processes.
        queue_limit: how many tasks may wait.
        usual_s: how long a task takes until that is known, seconds.
        keep_s, keep_bytes: how long ended tasks stay, and how much results may take.
        free_bytes: with less than this free on the disk nothing is accepted.
        upload_bytes, upload_files: of one request.
        body_bytes: of everything in a request that is no file.
        link_s: how long a signed link plays, seconds.
        rate: requests a second of one client, on average; None for any number.
        connections: how many there may be at the same time.
        open_metrics: `/metrics` needs no key.
        log_prompts: the log says what was asked for.
        webhook_hosts: where webhooks may go; empty for nowhere.
        data_roots: folders below which jobs (curating, training) read and write; empty for none.
        training_jobs: how many jobs run at the same time.
        explored: what a matrix found of each model on this device.
        answer_s: how long a route waits for a task whose result it answers, seconds.
    """

    worker: WorkerSetup
    keys: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = LOOPBACK
    origins: tuple[str, ...] = ()
    audio_roots: tuple[Path, ...] = ()
    lora_roots: tuple[Path, ...] = ()
    workers: int = 1
    queue_limit: int = 200
    usual_s: float = 5.0
    keep_s: float = 7 * 86400.0
    keep_bytes: int = 20 * 10**9
    free_bytes: int = 500 * 10**6
    upload_bytes: int = 200 * 10**6
    upload_files: int = 4
    body_bytes: int = 2**20
    link_s: float = 86400.0
    rate: float | None = None
    connections: int = 4096
    open_metrics: bool = False
    log_prompts: bool = False
    webhook_hosts: tuple[AllowedHost, ...] = ()
    data_roots: tuple[Path, ...] = ()
    training_jobs: int = 1
    explored: Mapping[str, Explored] = field(default_factory=dict)
    answer_s: float = 600.0
