"""Several processes are one run: two compute what one computes with twice the accumulation."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killed_run import run as run_once
from safetensors.torch import load_file

from luthier.errors import TrainingError
from luthier.training.checkpoint import find_checkpoints
from luthier.training.config import TrainConfig
from luthier.training.metrics import read_metrics
from luthier.training.processes import join_processes
from luthier.training.run import train

Make = Callable[..., TrainConfig]
Sources = tuple[Path, Path, Path]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_a_group(index: int, port: int, arguments: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    run_once(*arguments)


def assert_equal_to_accumulation(two: Path, one: Path) -> None:
    rows, expected = (read_metrics(folder / "metrics.jsonl") for folder in (two, one))
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert row.get("validation_loss") == pytest.approx(other.get("validation_loss"), abs=1e-4)
    a, b = (
        load_file(find_checkpoints(folder / "checkpoints")[-1] / "adapter_model.safetensors")
        for folder in (two, one)
    )
    for name, value in a.items():
        assert float((value - b[name]).abs().max()) < 1e-4, name


def test_two_processes_are_one_with_doubled_accumulation(
    tmp_path: Path, sources: Sources, config: Make
) -> None:
    model, dataset, cache = sources
    values = config(max_steps=6, save_every=3, device="cpu", dropout=0.1).model_dump()
    single = config(max_steps=6, save_every=3, device="cpu", dropout=0.1, accumulate=2)
    train(model, dataset, tmp_path / "one", single, cache_dir=cache)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["luthier.training.run", "datasets"])
    port = free_port()
    arguments = (model, dataset, tmp_path / "two" / "run", values, False)
    group = [
        context.Process(target=in_a_group, args=(index, port, arguments)) for index in range(2)
    ]
    for process in group:
        process.start()
    for process in group:
        process.join(300)
    assert [process.exitcode for process in group] == [0, 0]
    assert_equal_to_accumulation(tmp_path / "two" / "run", tmp_path / "one")
    # Alone it would take other batches: that is another run.
    with pytest.raises(TrainingError, match="trained with 2 batches in a step, over all processes"):
        train(
            model, dataset, tmp_path / "two" / "run", config(max_steps=8, save_every=3,
            device="cpu", dropout=0.1), resume=True, cache_dir=cache,
        )  # fmt: skip


@pytest.mark.slow
def test_under_accelerate_launch(tmp_path: Path, sources: Sources, config: Make) -> None:
    model, dataset, cache = sources
    flags = [
        *("--dataset", str(dataset), "--model", str(model), "--cache-dir", str(cache)),
        *("--max-steps", "6", "--save-every", "3", "--batch-size", "2", "--crop-s", "1"),
        *("--rank", "4", "--learning-rate", "0.01", "--samples", "0", "--no-tensorboard"),
        *("--logs-dir", str(tmp_path), "--device", "cpu", "--quiet"),
    ]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no", "--main_process_port", str(free_port())]
    result = subprocess.run(
        [*launch, "-m", "luthier", "train", "--exp-name", "two", *flags],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    single = config(max_steps=6, save_every=3, device="cpu", accumulate=2)
    train(model, dataset, tmp_path / "one", single, cache_dir=cache)
    assert_equal_to_accumulation(tmp_path / "two", tmp_path / "one")


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(TrainingError, match="start them with  accelerate launch"):
        join_processes(on_cpu=True)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join_processes(on_cpu=True).is_first
