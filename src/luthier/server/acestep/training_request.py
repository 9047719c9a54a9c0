"""ACE-Step's training requests → `luthier train`: the same settings under our names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from luthier.errors import LuthierError, RequestError
from luthier.files import read_json
from luthier.server.jobs.commands import Roots, plain_name
from luthier.server.schemas.trainings import LokrTraining, LoraTraining

_MANIFEST = "dataset_manifest.json"


class TrainingForm(NamedTuple):
    """What to hand in: arguments and settings of the command train, and what had no effect."""

    arguments: dict[str, Any]
    settings: dict[str, Any]
    notes: list[str]


def form_of(asked: LoraTraining | LokrTraining, roots: Roots) -> TrainingForm:
    """An epoch is one pass over the tracks, whatever the data set's repetition.

    Raises:
        RequestError: there is no such data set, or something is asked for that is not offered.
    """
    if asked.network_weights:
        raise RequestError(
            "network_weights: going on from other weights is not offered; a run of this server "
            "goes on with /v1/jobs/{job_id}/resume."
        )
    dataset = roots.path(asked.tensor_dir, "tensor_dir", of="folder")
    steps = steps_an_epoch(dataset, asked.train_batch_size, asked.gradient_accumulation)
    settings: dict[str, Any] = {
        "learning_rate": asked.learning_rate,
        "batch_size": asked.train_batch_size,
        "accumulate": asked.gradient_accumulation,
        "max_steps": steps * asked.train_epochs,
        "save_every": steps * asked.save_every_n_epochs,
        "seed": asked.training_seed,
        "gradient_checkpointing": asked.gradient_checkpointing,
        # Upstream's adapters count alpha/rank.
        "use_rslora": False,
    }
    if isinstance(asked, LoraTraining):
        named, settings = asked.lora_output_dir, settings | _lora(asked)
    else:
        named, settings = asked.output_dir, settings | _lokr(asked)
    output = roots.path(named, "output_dir", of="new")
    arguments = {
        "dataset": str(dataset),
        "logs_dir": str(output.parent),
        "exp_name": plain_name(output.name, "output_dir"),
        "model": asked.model,
    }
    return TrainingForm(arguments, settings, _notes(asked))


def steps_an_epoch(dataset: Path, batch_size: int, accumulate: int) -> int:
    """Optimiser steps in one pass over the tracks of a data set.

    Raises:
        RequestError: the folder is none.
    """
    tracks = int(manifest_of(dataset)["train_count"])
    return max(1, math.ceil(tracks / (batch_size * accumulate)))


def manifest_of(dataset: Path) -> dict[str, Any]:
    """What a built data set says of itself.

    Raises:
        RequestError: the folder is none.
    """
    try:
        found = read_json(dataset / _MANIFEST)
        if int(found["train_count"]) < 1:
            raise ValueError
    except (LuthierError, KeyError, TypeError, ValueError):
        raise RequestError(
            "tensor_dir: that folder is no data set of luthier: build one with the job "
            "dataset_build."
        ) from None
    return dict(found)


def _lora(asked: LoraTraining) -> dict[str, Any]:
    return {
        "adapter": "lora",
        "rank": asked.lora_rank,
        "alpha": asked.lora_alpha,
        "dropout": asked.lora_dropout,
    }


def _lokr(asked: LokrTraining) -> dict[str, Any]:
    return {
        "adapter": "lokr",
        "rank": asked.lokr_linear_dim,
        "alpha": asked.lokr_linear_alpha,
        "lokr_factor": asked.lokr_factor,
    }


def _notes(asked: LoraTraining | LokrTraining) -> list[str]:
    """What was said and changes nothing."""
    silent = {"training_shift", "use_fp8", "lokr_decompose_both", "lokr_use_tucker",
              "lokr_use_scalar", "lokr_weight_decompose"}  # fmt: skip
    said = sorted(asked.model_fields_set & silent)
    return [f"{name} has no effect here." for name in said]
