"""Caching in a process of its own, with small shards, to be killed."""

from __future__ import annotations

from pathlib import Path

import torch
from helpers_features import features

from luthier.training import shards


def run(model: Path, dataset: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    shards._SHARD_ENTRIES = 2  # several shards out of a few tracks
    features(dataset, model, folder)
