"""Tasks: what a row teaches, and that its conditions are those of playing, number for number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_features import constants_of, features

from luthier.audio.encode import write_audio
from luthier.errors import TrainingError
from luthier.music.dataset.build import load_rows
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.playing.prepare import Source, prepare
from luthier.music.request import request_from
from luthier.music.torch.model_folder import open_model
from luthier.music.training import batches
from luthier.music.training.batches import training_example
from luthier.music.training.feature_encoder import Encoder
from luthier.music.training.task_context import context_of, drawn_window
from luthier.music.training.task_mix import task_weights
from luthier.music.training.training_pairs import Sound, variants_of
from luthier.training.config import TrainConfig
from tiny import SPEC, tiny_onnx, tiny_torch

Make = Callable[..., TrainConfig]


def crop_of(entry: Any, task: str, frames: int, window: tuple[int, int] | None) -> Any:
    variant = next(v for v in entry.variants if v.task == task)
    return batches._Crop(variant, 0, frames, window)


@pytest.mark.parametrize("task", ["text2music", "repaint", "cover"])
def test_conditions_are_those_of_playing(task: str, dataset_dir: Path, tmp_path: Path) -> None:
    """The same request through the exported graphs and through caching and batching."""
    row = load_rows(dataset_dir, "train")[0]
    entries = features(
        dataset_dir, tiny_torch(), tmp_path, crop_s=2.0, tasks=("text2music", "repaint", "cover")
    )
    entry = next(e for e in entries if e.key == row["keys"])
    frames = 100  # two seconds, a whole number of the codes' windows
    window = (25, 75) if task == "repaint" else None
    crop = crop_of(entry, task, frames, window)
    batch = batches._collate([crop], frames, constants_of(tiny_torch()))

    pipeline = MusicPipeline(tiny_onnx())
    asked = request_from(
        {
            "task": task, "prompt": row["caption"], "lyrics": row["lyrics"], "instrumental": True,
            "bpm": 120, "key": "A minor", "time_signature": "4", "duration": 2.0, "seed": 1,
            "steps": 4, "guidance_scale": 1.0, "shift": 1.0,
        }
        | ({} if task == "text2music" else {"source_audio": row["filename"]})
        | ({"repaint_start_s": 0.5, "repaint_end_s": 1.5} if task == "repaint" else {})
    )  # fmt: skip
    source = None
    if task != "text2music":
        samples = torch.from_numpy(Encoder(open_model(tiny_torch()), torch.device("cpu"))._mixed(
            Sound((Path(row["filename"]),))
        ))  # fmt: skip
        source = Source(samples[:, : frames * SPEC.hop_length].numpy(), 2.0, asked.windows)
    expected = prepare(pipeline.encoder, asked, source).first
    np.testing.assert_allclose(
        batch.encoder_states.numpy(), expected.encoder_hidden_states, rtol=1e-3, atol=1e-4
    )
    assert np.array_equal(batch.encoder_mask.numpy(), expected.encoder_attention_mask)
    found = batch.context.numpy()
    # At its end a crop hears what follows it, the request's source ends there: two frames differ.
    kept = slice(0, frames - 4 if task == "repaint" else frames - SPEC.pool_window)
    np.testing.assert_allclose(
        found[:, kept], expected.context_latents[:, kept], rtol=1e-3, atol=2e-3
    )


def test_the_mix_follows_the_weights(
    dataset_dir: Path, model_dir: Path, tmp_path: Path, config: Make
) -> None:
    tasks = ("text2music:6", "repaint:3", "cover:1")
    entries = features(dataset_dir, model_dir, tmp_path, tasks=tuple(task_weights(tasks)))
    constants = constants_of(model_dir)
    settings = config(tasks=tasks, batch_size=8)
    channels, seen = SPEC.latent_channels, Counter[str]()
    for step in range(60):
        batch = training_example(entries, constants, settings, step).batch
        frames = batch.music.shape[1]
        for context in batch.context:
            mask, source = context[:, channels], context[:, :channels]
            if not mask.all():
                seen["repaint"] += 1
                assert torch.equal(source[mask > 0.5], constants.silence[0, :frames][mask > 0.5])
                assert 0.05 < mask.mean() < 0.95
            elif torch.equal(source, constants.silence[0, :frames]):
                seen["text2music"] += 1
            else:
                seen["cover"] += 1
    shares = {name: count / seen.total() for name, count in seen.items()}
    assert shares["text2music"] == pytest.approx(0.6, abs=0.08)
    assert shares["repaint"] == pytest.approx(0.3, abs=0.08)
    assert shares["cover"] == pytest.approx(0.1, abs=0.06)


def test_stems_teach_three_tasks_more(tmp_path: Path, model_dir: Path) -> None:
    rng = np.random.default_rng(0)
    files = {}
    for name in ("drums", "bass"):
        files[name] = tmp_path / f"{name}.wav"
        write_audio(files[name], rng.normal(0, 0.1, (2, 16000)).astype(np.float32), 8000)
    row = {"filename": str(files["bass"]), "stems": {n: str(p) for n, p in files.items()}}
    planned = variants_of(row | {"keys": "x"}, ("text2music", "extract", "lego", "complete"))
    mix, drums, bass = Sound((files["bass"],)), Sound((files["drums"],)), Sound((files["bass"],))
    found = {(p.task, p.tracks): (p.target, p.source) for p in planned}
    assert found["text2music", ()] == (mix, None)
    assert found["extract", ("drums",)] == (drums, mix)
    assert found["lego", ("drums",)] == (drums, bass)
    assert found["complete", ("drums",)] == (mix, bass)
    assert len(planned) == 7
    # Arrow fills a row's missing stems with None.
    alone = variants_of(row | {"stems": {"drums": str(files["drums"]), "bass": None}}, ("lego",
        "extract"))  # fmt: skip
    assert [p.task for p in alone] == ["extract"]
    encoder = Encoder(open_model(model_dir), torch.device("cpu"))
    both = encoder._mixed(Sound((files["drums"], files["bass"])))
    each = [encoder._mixed(Sound((path,))) for path in files.values()]
    np.testing.assert_allclose(both, np.clip(each[0] + each[1], -1, 1), atol=1e-6)


def test_a_track_without_stems_is_refused_for_tasks_that_need_them() -> None:
    with pytest.raises(TrainingError, match="no stems, which lego need"):
        variants_of({"filename": "x.wav"}, ("lego",))
    with pytest.raises(TrainingError, match="a stem named 'kazoo': there are woodwinds"):
        variants_of({"filename": "x.wav", "stems": {"kazoo": "k.wav"}}, ("extract",))


def test_a_window_stays_inside_its_crop() -> None:
    generator = torch.Generator().manual_seed(0)
    silence, source = torch.zeros(40, 2), torch.ones(40, 2)
    for _ in range(200):
        start, end = drawn_window(40, generator)
        assert 0 <= start < end <= 40
        context = context_of(source, silence, (start, end))
        assert float(context[:, 2:].sum()) == 2 * (end - start)
        assert float(context[:, :2].sum()) == 2 * (40 - (end - start))


def test_covers_begin_where_the_codes_do(
    dataset_dir: Path, model_dir: Path, tmp_path: Path, config: Make
) -> None:
    entries = features(dataset_dir, model_dir, tmp_path, tasks=("cover",))
    settings = config(tasks=("cover",), crop_start="any")
    generator = torch.Generator().manual_seed(0)
    starts = {
        batches._drawn(entry, 50, settings, {"cover": 1.0}, SPEC, generator).start
        for _ in range(20)
        for entry in entries
    }
    assert len(starts) > 5
    assert all(start % SPEC.pool_window == 0 for start in starts)
