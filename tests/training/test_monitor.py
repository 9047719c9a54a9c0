"""What a run shows: samples of base and adapter, the report, TensorBoard, and no other training."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from luthier.audio.decode import read_audio
from luthier.errors import TrainingError
from luthier.training import trainer
from luthier.training.checkpoint import find_checkpoints, retire, step_of
from luthier.training.config import TrainConfig
from luthier.training.metrics import read_metrics
from luthier.training.run import train
from luthier.training.run_report import RunView, write_run_report

Make = Callable[..., TrainConfig]
Sources = tuple[Path, Path, Path]


def test_a_watched_run_trains_as_an_unwatched_one(
    tmp_path: Path, sources: Sources, config: Make
) -> None:
    model, dataset, cache = sources
    watched = config(
        max_steps=4, save_every=2, samples=1, sample_s=1.0, tensorboard=True, learning_rate=0.05
    )
    plain = watched.model_copy(update={"samples": 0, "tensorboard": False})
    folder = tmp_path / "watched"
    train(model, dataset, folder, watched, cache_dir=cache)
    train(model, dataset, tmp_path / "plain", plain, cache_dir=cache)
    losses = [
        [row["loss"] for row in read_metrics(f / "metrics.jsonl")]
        for f in (folder, tmp_path / "plain")
    ]
    assert losses[0] == losses[1]
    assert not (tmp_path / "plain" / "samples").exists()

    clips = [
        read_audio(folder / "samples" / name / "0.wav")[0] for name in ("base", "step=2", "step=4")
    ]
    assert all(0.8 < float(np.abs(clip).max()) < 0.9 for clip in clips)  # -1 dBFS
    assert clips[0].shape == clips[1].shape == (2, 8000)
    assert not np.array_equal(clips[0], clips[2])
    assert (folder / "samples" / "base" / "0.png").read_bytes().startswith(b"\x89PNG")

    page = (folder / "report.html").read_text()
    assert "done: step 4 of 4" in page
    assert "refresh" not in page  # a finished page does not reload
    for title in ("Training loss", "Validation loss", "Learning rate", "Gradient norm"):
        assert title in page
    assert "Throughput" in page
    assert "Memory" in page
    for place in re.findall(r'src="([^"]+)"', page):
        assert (folder / place.replace("%3D", "=")).is_file()

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx(losses[0], rel=1e-5)
    assert [e.step for e in events.Scalars("validation_loss")] == [2, 4]
    assert "sample/0" in events.Tags()["audio"]

    # Resumed, the base model's samples stay what they were.
    base = (folder / "samples" / "base" / "0.wav").read_bytes()
    longer = watched.model_copy(update={"max_steps": 6})
    train(model, dataset, folder, longer, resume=True, cache_dir=cache)
    assert (folder / "samples" / "base" / "0.wav").read_bytes() == base
    assert (folder / "samples" / "step=6" / "0.wav").is_file()


def test_a_page_of_a_run_that_goes_on_reloads(tmp_path: Path) -> None:
    view = RunView("<run>", "running", 20, 100, ())
    write_run_report(tmp_path / "report.html", view, tmp_path / "none.jsonl", tmp_path / "samples")
    page = (tmp_path / "report.html").read_text()
    assert '<noscript><meta http-equiv="refresh" content="20"></noscript>' in page
    assert '<main data-reload="20">' in page
    assert "&lt;run&gt;" in page


def test_a_loss_that_leaves_all_it_was_stops_with_advice(
    tmp_path: Path, sources: Sources, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset, cache = sources
    # Well at first, and then steps that no loss can bear.
    monkeypatch.setattr(trainer, "rate_at", lambda step, *_: 0.001 if step < 24 else 30.0)
    # All weights: an adapter's output is bounded by the last layer's norm.
    settings = config(max_steps=60, save_every=10, adapter="full")
    with pytest.raises(TrainingError, match=r"has risen to|is not a number") as caught:
        train(model, dataset, tmp_path / "run", settings, cache_dir=cache)
    assert "--learning-rate" in str(caught.value)
    assert "The last good checkpoint is" in str(caught.value)


def test_the_course_is_judged_by_its_mean() -> None:
    made = trainer.Trainer.__new__(trainer.Trainer)
    made.losses, made._first, made._lowest = deque(maxlen=20), None, float("inf")
    made._diverged = lambda what, rate: what  # type: ignore[method-assign]
    made.config, made.step, made.peak = TrainConfig(), 50, 1e-4
    for loss in [0.5, 9.0] * 30:  # noisy, but on its way nowhere
        made.losses.append(loss)
        made._check_course()
    made.losses.extend([25.0] * 20)
    with pytest.raises(TrainingError, match=r"has risen to 25, 5\.\d times its lowest"):
        made._check_course()


def test_near_zero_a_mean_may_waver() -> None:
    """Four tracks by heart: the loss falls a hundredfold, and wavers by many times what is left."""
    made = trainer.Trainer.__new__(trainer.Trainer)
    made.losses, made._first, made._lowest = deque(maxlen=20), None, float("inf")
    made._diverged = lambda what, rate: what  # type: ignore[method-assign]
    made.config, made.step, made.peak = TrainConfig(), 50, 1e-4
    for loss in [0.6, 0.006, 0.06]:
        made.losses.extend([loss] * 20)
        made._check_course()
    made.losses.extend([0.4] * 20)
    with pytest.raises(TrainingError, match=r"has risen to 0\.4"):
        made._check_course()


def test_retention_by_measure(tmp_path: Path, sources: Sources, config: Make) -> None:
    model, dataset, cache = sources
    folder = tmp_path / "run"
    settings = config(max_steps=6, save_every=1, keep=6)
    train(model, dataset, folder, settings, cache_dir=cache)
    paths = {step_of(path): path for path in find_checkpoints(folder / "checkpoints")}
    for step, score in {2: 3.0, 3: 1.0, 4: 2.0}.items():
        (paths[step] / "evaluation.json").write_text(f'{{"fad_score": {score}}}')
    retire(folder / "checkpoints", 2, "fad_score")
    assert [step_of(p) for p in find_checkpoints(folder / "checkpoints")] == [3, 4, 6]
