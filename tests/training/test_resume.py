"""Stop, kill, tear, resume: the loss curve is that of a run which nothing happened to."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_run import run as killed_run
from safetensors.torch import load_file

from luthier.errors import LuthierError, TrainingError
from luthier.progress import Display
from luthier.training.checkpoint import find_checkpoints, step_of
from luthier.training.config import TrainConfig
from luthier.training.metrics import Metrics, read_metrics
from luthier.training.run import train

Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def curve(folder: Path) -> list[tuple[Any, ...]]:
    """What must not differ by a bit: all but the seconds and the extra validation of a stop."""
    rows = read_metrics(folder / "metrics.jsonl")
    return [(r["step"], r["loss"], r["learning_rate"], r["gradient_norm"]) for r in rows]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = find_checkpoints(folder / "checkpoints")[-1]
    adapter = load_file(newest / "adapter_model.safetensors")
    return adapter | load_file(newest / "optimizer.safetensors")


def assert_same_run(found: Path, expected: Path) -> None:
    assert curve(found) == curve(expected)
    a, b = weights(found), weights(expected)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, model_dir: Path, dataset_dir: Path
) -> tuple[Path, dict[str, Any]]:
    """A run of 40 steps in a process of its own, with dropout, so that all randomness counts."""
    values = {"max_steps": 40, "save_every": 7, "batch_size": 2, "crop_s": 1.0, "rank": 4}
    values |= {"learning_rate": 0.01, "dropout": 0.1, "crop_start": "any"}
    values |= {"samples": 0, "tensorboard": False, "ema": 0.9}
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    process = start(model_dir, dataset_dir, output, values, resume=False)
    process.join(240)
    assert process.exitcode == 0
    assert len(curve(output)) == 40
    return output, values


def start(model: Path, dataset: Path, output: Path, values: dict[str, Any], resume: bool) -> Any:
    # The fork server has imported everything: a process is there at once, and its death is real.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["luthier.training.run", "datasets"])
    process = context.Process(target=killed_run, args=(model, dataset, output, values, resume))
    process.start()
    return process


def kill_and_resume(
    kills: int, tmp_path: Path, sources: tuple[Path, Path], undisturbed: tuple[Path, dict[str, Any]]
) -> None:
    expected, values = undisturbed
    output = tmp_path / "run"
    chance = random.Random(kills)
    progress, hit_in_a_save = [], 0
    for attempt in range(kills):
        process = start(*sources, output, values, resume=attempt > 0)
        # By turns somewhere within a step, and in the middle of writing a checkpoint.
        in_a_save = attempt % 2 == 1
        before = len(read_metrics(output / "metrics.jsonl"))
        wanted = before + (12 if in_a_save else chance.randint(0, max(1, 40 // kills)))
        deadline = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < deadline:
            if in_a_save and any((output / "checkpoints").glob(".*.tmp*")):
                hit_in_a_save += 1
                break
            if len(read_metrics(output / "metrics.jsonl")) >= wanted:
                break
            time.sleep(0.001)
        if not in_a_save:
            time.sleep(chance.random() * 0.06)
        process.kill()
        process.join(60)
        progress.append(len(read_metrics(output / "metrics.jsonl")))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    process = start(*sources, output, values, resume=True)
    process.join(240)
    assert process.exitcode == 0
    assert any(0 < steps < 40 for steps in progress), "no kill hit a run in its middle"
    assert hit_in_a_save, "no kill hit a checkpoint that was being written"
    assert_same_run(output, expected)
    assert not [p for p in (output / "checkpoints").iterdir() if p.name.startswith(".")]


def test_killed_twice(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, undisturbed: tuple[Path, dict[str, Any]]
) -> None:
    kill_and_resume(2, tmp_path, (model_dir, dataset_dir), undisturbed)


@pytest.mark.slow
def test_killed_twenty_times(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, undisturbed: tuple[Path, dict[str, Any]]
) -> None:
    kill_and_resume(20, tmp_path, (model_dir, dataset_dir), undisturbed)


@pytest.fixture
def whole(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, cache_dir: Path, config: Make
) -> Path:
    """A finished run of 12 steps with checkpoints 4, 8 and 12."""
    folder = tmp_path / "whole"
    train(model_dir, dataset_dir, folder, config(), cache_dir=cache_dir)
    return folder


@pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
def test_a_damaged_checkpoint_is_named_and_passed_over(
    whole: Path,
    tmp_path: Path,
    sources: tuple[Path, Path, Path],
    config: Make,
    damage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, dataset, cache = sources
    torn = tmp_path / "torn"
    shutil.copytree(whole, torn)
    file = find_checkpoints(torn / "checkpoints")[-1] / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-100] if damage == "cut" else data)
    result = train(
        model, dataset, torn, config(), display=Display("plain"), resume=True, cache_dir=cache
    )
    said = capsys.readouterr().err
    assert "passed over: the checkpoint epoch=4-step=12_lora" in said
    assert "optimizer.safetensors" in said
    assert result.step == 12
    assert_same_run(torn, whole)


def test_no_whole_checkpoint_is_an_error(
    whole: Path, sources: tuple[Path, Path, Path], config: Make
) -> None:
    model, dataset, cache = sources
    for path in find_checkpoints(whole / "checkpoints"):
        (path / "state.json").write_text("{")
    before = curve(whole)
    with pytest.raises(TrainingError, match="none of the 3 checkpoints"):
        train(model, dataset, whole, config(), resume=True, cache_dir=cache)
    assert curve(whole) == before


def test_resume_from_a_step(
    whole: Path, tmp_path: Path, sources: tuple[Path, Path, Path], config: Make
) -> None:
    model, dataset, cache = sources
    again = tmp_path / "again"
    shutil.copytree(whole, again)
    train(model, dataset, again, config(), resume=4, cache_dir=cache)
    assert_same_run(again, whole)
    with pytest.raises(TrainingError, match="no checkpoint of step 5: there are 4, 8, 12"):
        train(model, dataset, again, config(), resume=5, cache_dir=cache)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on(
    whole: Path,
    tmp_path: Path,
    sources: tuple[Path, Path, Path],
    config: Make,
    number: signal.Signals,
) -> None:
    model, dataset, cache = sources
    folder = tmp_path / "stopped"
    before = signal.getsignal(number)

    def send() -> None:
        while len(read_metrics(folder / "metrics.jsonl")) < 2:
            time.sleep(0.002)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    result = train(model, dataset, folder, config(), cache_dir=cache)
    thread.join()
    assert result.stopped_by == number
    assert signal.getsignal(number) is before
    assert 2 <= result.step < 12
    assert step_of(result.checkpoint) == result.step
    train(model, dataset, folder, config(), resume=True, cache_dir=cache)
    assert_same_run(folder, whole)


def test_resuming_a_finished_run_trains_nothing(
    whole: Path, sources: tuple[Path, Path, Path], config: Make
) -> None:
    before = (whole / "metrics.jsonl").read_bytes()
    result = train(*sources[:2], whole, config(), resume=True, cache_dir=sources[2])
    assert (result.step, result.loss) == (12, None)
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_without_resume_nothing_is_overwritten(
    whole: Path, sources: tuple[Path, Path, Path], config: Make
) -> None:
    with pytest.raises(TrainingError, match="--resume goes on from there"):
        train(*sources[:2], whole, config(), cache_dir=sources[2])


def test_what_would_make_it_another_run_is_refused(
    whole: Path, tmp_path: Path, sources: tuple[Path, Path, Path], config: Make
) -> None:
    from tiny import make_tiny_model
    from tiny_tracks import make_dataset

    model, dataset, cache = sources
    with pytest.raises(TrainingError, match="rank was 4 and is 8 now"):
        train(model, dataset, whole, config(rank=8), resume=True, cache_dir=cache)
    other = make_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(TrainingError, match="was trained from the model tiny"):
        train(other, dataset, whole, config(), resume=True, cache_dir=cache)
    changed = make_dataset(tmp_path, validation_split=0.5)
    with pytest.raises(TrainingError, match="data set has changed"):
        train(model, changed, whole, config(), resume=True, cache_dir=cache)


def test_two_runs_in_one_folder(
    tmp_path: Path, sources: tuple[Path, Path, Path], config: Make
) -> None:
    from luthier.lock import sole_user

    with (
        sole_user(tmp_path / "run"),
        pytest.raises(TrainingError, match="another run is training"),
    ):
        train(*sources[:2], tmp_path / "run", config(), cache_dir=sources[2])


def test_a_disk_that_takes_no_more(
    whole: Path, tmp_path: Path, sources: tuple[Path, Path, Path], config: Make
) -> None:
    model, dataset, cache = sources
    folder = tmp_path / "run"
    train(model, dataset, folder, config(max_steps=12), resume=False, cache_dir=cache)
    shutil.rmtree(find_checkpoints(folder / "checkpoints")[-1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # Only the optimiser's file is larger than this: the save breaks in its middle.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(LuthierError, match="a file-size limit is reached"):
            train(model, dataset, folder, config(), resume=True, cache_dir=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [step_of(p) for p in find_checkpoints(folder / "checkpoints")] == [4, 8]
    assert not list((folder / "checkpoints").glob(".*"))
    train(model, dataset, folder, config(), resume=True, cache_dir=cache)
    assert_same_run(folder, whole)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": step, "loss": 0.1 * step} for step in (1, 2, 3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    assert read_metrics(path) == rows
    with Metrics(path, 2) as metrics:
        metrics.append({"step": 3, "loss": 0.25})
    assert read_metrics(path) == [*rows[:2], {"step": 3, "loss": 0.25}]


def test_retention_keeps_the_best_and_the_newest(
    tmp_path: Path, sources: tuple[Path, Path, Path], config: Make
) -> None:
    result = train(
        *sources[:2], tmp_path / "run", config(save_every=2, keep=2), cache_dir=sources[2]
    )
    kept = [step_of(path) for path in find_checkpoints(tmp_path / "run" / "checkpoints")]
    assert result.best is not None
    losses = {
        row["step"]: row["validation_loss"]
        for row in read_metrics(result.metrics)
        if "validation_loss" in row
    }
    assert list(losses) == [2, 4, 6, 8, 10, 12]
    best = min(losses, key=lambda step: losses[step])
    assert step_of(result.best) == best
    second = min(losses.keys() - {best}, key=lambda step: losses[step])
    assert set(kept) == {best, second, 12}
