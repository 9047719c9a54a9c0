"""A tiny model and a tiny data set, both real, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.training.config import TrainConfig, config_from
from tiny import make_tiny_model
from tiny_tracks import make_dataset


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def config() -> Callable[..., TrainConfig]:
    """A configuration of a dozen quick steps that nobody watches, with changes."""

    def make(**changes: Any) -> TrainConfig:
        values = {"max_steps": 12, "save_every": 4, "batch_size": 2, "crop_s": 1.0, "rank": 4}
        values |= {"samples": 0, "tensorboard": False}
        return config_from(values | {"learning_rate": 0.01} | changes)

    return make


@pytest.fixture
def sources(model_dir: Path, dataset_dir: Path, cache_dir: Path) -> tuple[Path, Path, Path]:
    """Model, data set and a cache that the tests share."""
    return model_dir, dataset_dir, cache_dir
