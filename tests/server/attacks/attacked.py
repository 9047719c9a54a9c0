"""A server with everything switched on that can be attacked, and something beside it to steal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from starlette.testclient import TestClient

from luthier.music.mini import onnx_folder
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup
from luthier.server.queue.retention import Places
from luthier.server.service import Service
from luthier.server.webhooks.allowed_hosts import allowed_host

ORIGIN = "http://127.0.0.1:8001"
SECRET = b"nobody's business"


class Target(NamedTuple):
    """A server without workers whose only root (for recordings, adapters, data) is `root`."""

    client: TestClient
    service: Service
    root: Path
    outside: Path

    @property
    def uploads(self) -> list[Path]:
        """Everything that uploads left on the disk."""
        folder = Places(self.service.config.worker.home).uploads
        return list(folder.rglob("*")) if folder.exists() else []

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return self.service.queue.counts().total


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("target")
    root, outside = folder / "root", folder / "outside"
    for place in (root / "deep", outside / "lora"):
        place.mkdir(parents=True)
    for name in ("secret.wav", "lora/adapter_config.json", "lora/adapter_model.safetensors"):
        (outside / name).write_bytes(SECRET)
    (root / "deep" / "a.wav").write_bytes(b"sound")
    (root / "link.wav").symlink_to(outside / "secret.wav")
    (root / "door").symlink_to(outside)
    config = ServerConfig(
        worker=WorkerSetup(home=folder / "home", models={"mini": onnx_folder()}, threads=1),
        workers=0,
        queue_limit=10**6,
        upload_bytes=10_000,
        answer_s=0.01,
        audio_roots=(root,),
        lora_roots=(root,),
        data_roots=(root,),
        webhook_hosts=(allowed_host(".hooks.example"),),
    )
    app = create_app(config)
    with TestClient(app, base_url=ORIGIN, raise_server_exceptions=False) as client:
        # Jobs are accepted and never begun.
        app.state.service.desk.runner.stop()
        yield Target(client, app.state.service, root, outside)


@pytest.fixture
def target(attacked: Target) -> Target:
    """The same, as it was at the beginning."""
    with attacked.service.queue.store.transaction() as connection:
        connection.execute("DELETE FROM tasks")
        connection.execute("DELETE FROM jobs")
    shutil.rmtree(attacked.service.places.uploads, ignore_errors=True)
    return attacked
