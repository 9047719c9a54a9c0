"""Cached features of a tiny data set, for the tests of what comes after caching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from luthier.music.torch.model_folder import open_model
from luthier.music.training.batches import Constants
from luthier.music.training.feature_cache import Entry, cache_features, load_features
from luthier.music.training.feature_encoder import Encoder


def features(
    dataset: Path, model: Path, folder: Path, split: str = "train", **changes: Any
) -> list[Entry]:
    """The entries of a split; `changes` go to `cache_features`."""
    encoder = Encoder(open_model(model), torch.device("cpu"))
    values: dict[str, Any] = {"crop_s": 1.0} | changes
    return load_features(cache_features(dataset, split, encoder, folder, **values))


def constants_of(model: Path) -> Constants:
    """What batches need of a model."""
    found = open_model(model)
    encoder = found.part("condition_encoder")
    null = encoder.null_condition_emb.detach()
    return Constants(found.spec, encoder.silence_latent, null)
