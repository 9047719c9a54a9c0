"""One server with a key for all tests here, and a recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.client import Client
from serving import KEY, Running, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_server(tmp_path_factory.mktemp("client"), key=KEY) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.address, KEY) as client:
        yield client


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "in.wav"
    sound = 0.3 * np.sin(np.arange(24000 * 2) / 30, dtype=np.float32)
    write_audio(path, np.stack([sound, sound]), 24000)
    return path
