"""What is found before anything long: skipped tracks, wrong labels, licences, room, presets."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.errors import LicenceError, TrainingError
from luthier.music.dataset.build import load_rows
from luthier.music.training import preflight as module
from luthier.music.training.estimate import PRESETS, Size, memory_bytes, presets_that_fit
from luthier.music.training.preflight import preflight
from luthier.music.training.track_checks import inspect_tracks, refuse_unlicensed
from luthier.progress import SILENT
from luthier.training.config import TrainConfig, config_from
from luthier.training.run import train

Make = Callable[..., TrainConfig]
Sources = tuple[Path, Path, Path]
# The denoiser of ACE-Step 1.5, with an adapter of rank 64 and a crop of 60 s.
TWO_BILLION = Size(1_575_000_000, 44_000_000, 24, 2048, 6144, 750)


def test_the_preflight_says_all_and_writes_nothing(
    tmp_path: Path, sources: Sources, config: Make
) -> None:
    settings = config(target_modules=("linear_q", "to_q", "to_k", "to_v", "to_out.0"))
    plan = preflight(*sources[:2], tmp_path / "run", settings, resume=False)
    assert plan.trained_parameters == 3584
    assert (plan.train_tracks, plan.validation_tracks) == (3, 1)
    assert plan.epochs == 4.0  # 24 crops of 3 tracks taken twice
    assert plan.memory_gb > 0
    assert plan.disk_gb > 0
    assert plan.hours > 0
    text = plan.to_text()
    assert "would train 3,584 parameters of tiny" in text
    assert "note: linear_q has its counterpart in the lyric encoder" in text
    assert all(name in text for name in PRESETS)
    json.dumps(plan.as_dict())
    assert list(tmp_path.iterdir()) == []


def test_every_track_that_would_be_skipped_is_named(
    tmp_path: Path, sources: Sources, config: Make
) -> None:
    from tiny_tracks import make_dataset

    dataset = make_dataset(tmp_path)
    rows = load_rows(dataset, "train")
    gone, changed = (Path(row["filename"]) for row in rows[:2])
    gone.unlink()
    changed.write_bytes(changed.read_bytes() + b"\0")
    plan = preflight(sources[0], dataset, tmp_path / "run", config(), resume=False)
    assert plan.train_tracks == 1
    assert f"{rows[0]['keys']}: {gone} is gone." in plan.refused
    assert any("has changed since the data set was built" in reason for reason in plan.refused)
    Path(rows[2]["filename"]).unlink()
    with pytest.raises(TrainingError, match="nothing to train on: of 3 tracks"):
        preflight(sources[0], dataset, tmp_path / "run", config(), resume=False)


def test_a_wrong_tempo_is_doubted(tmp_path: Path) -> None:
    from luthier.files import sha256_of

    rate, bpm = 22050, 100.0
    time = np.arange(20 * rate) / rate
    clicks = np.exp(-60 * (time % (60 / bpm))) * np.sin(2 * np.pi * 900 * time)
    path = tmp_path / "clicks.wav"
    write_audio(path, np.stack([clicks, clicks]).astype(np.float32) * 0.5, rate)
    row = {"keys": "clicks", "filename": str(path), "sha256": sha256_of(path), "caption": "clicks"}
    row |= {"lyrics": "[Instrumental]", "instrumental": True, "language": "en", "keyscale": None}
    row |= {"timesignature": "4", "duration": 20.0}
    labels = {100.0: 0, 50.0: 0, 200.0: 0, 128.0: 1}
    for label, doubts in labels.items():
        (report,) = inspect_tracks([row | {"bpm": label}], ("text2music",), 6.0, SILENT)
        assert len(report.warnings) == doubts, (label, report)
    (report,) = inspect_tracks(
        [row | {"bpm": 128.0, "duration": 90.0}], ("text2music",), 6.0, SILENT
    )
    assert report.warnings[0].startswith("labelled 128 bpm, heard ")
    assert report.warnings[1] == "labelled 90.0 s long, found 20.0 s"
    (report,) = inspect_tracks([row | {"bpm": 900.0}], ("text2music",), 6.0, SILENT)
    assert "labels are not valid" in report.skipped
    (report,) = inspect_tracks([row | {"bpm": 100.0}], ("lego",), 6.0, SILENT)
    assert "no stems" in report.skipped


def test_a_wrong_key_is_doubted(tmp_path: Path) -> None:
    from luthier.files import sha256_of

    path = tmp_path / "song.wav"
    write_audio(path, play(90, "A minor", 16.0), RATE)
    row = {"keys": "song", "filename": str(path), "sha256": sha256_of(path), "caption": "song"}
    row |= {"lyrics": "[Instrumental]", "instrumental": True, "language": "en", "duration": 16.0}
    said = {}
    for key in ("A minor", "Am", "C major", None, "Eb minor", "A major", "D minor"):
        (report,) = inspect_tracks([row | {"keyscale": key}], ("text2music",), 6.0, SILENT)
        said[key] = report.warnings
    doubted = {key for key, warnings in said.items() if warnings}
    assert doubted == {"Eb minor", "A major", "D minor"}
    assert said["A major"] == ("labelled A major, heard A minor",)


def test_a_track_without_a_licence_is_refused(
    tmp_path: Path, sources: Sources, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_unlicensed([{"keys": "a", "source_id": "own"}], ["CC0-1.0"])
    with pytest.raises(LicenceError, match=r"1 tracks have no record .*: b\. Add it") as caught:
        refuse_unlicensed([{"keys": "a", "source_id": "own"}, {"keys": "b"}], ["CC0-1.0"])
    assert caught.value.exit_code == 3
    monkeypatch.setattr(module, "load_manifest", lambda _: {"licences": []})
    with pytest.raises(LicenceError, match="all of them"):
        preflight(*sources[:2], tmp_path / "run", config(), resume=False)
    monkeypatch.setattr("luthier.training.run.load_manifest", lambda _: {"licences": []})
    with pytest.raises(LicenceError):
        train(*sources[:2], tmp_path / "run", config(), cache_dir=sources[2])
    assert list(tmp_path.iterdir()) == []  # not even an empty folder or a lock


def test_a_full_disk_is_found_before(
    tmp_path: Path, sources: Sources, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(TrainingError, match=r"GB of disk and 0\.0 GB are free"):
        preflight(*sources[:2], tmp_path / "run", config(), resume=False)


def test_the_presets_stay_within_their_names() -> None:
    base = config_from({"rank": 64})
    fits = presets_that_fit(TWO_BILLION, base, 24_000_000_000, on_cpu=False)
    assert all(fit.fits_name for fit in fits), [(f.name, f.memory_gb) for f in fits]
    assert [f.name for f in fits if f.fits_here] == ["8 GB", "12 GB", "16 GB", "24 GB"]
    on_cpu = presets_that_fit(TWO_BILLION, base, 0, on_cpu=True)
    assert [f.name for f in on_cpu if f.fits_here] == ["CPU"]


def test_what_saves_memory_is_counted_as_less() -> None:
    plain = config_from({"rank": 64})

    def needed(**changes: object) -> float:
        return memory_bytes(TWO_BILLION, plain.model_copy(update=changes), half=True)

    assert needed(gradient_checkpointing=True) < 0.5 * needed(batch_size=4)
    assert needed(optimizer="adamw8bit") < needed()
    assert needed(ema=0.99) > needed()
    assert needed(batch_size=2) > needed(batch_size=1)


def test_the_estimate_is_near_what_is_needed(tmp_path: Path) -> None:
    """Against what torch keeps for the way back, of a denoiser that is no toy."""
    from diffusers import AceStepTransformer1DModel

    from luthier.music.torch.denoiser import denoise
    from luthier.training.weights_io import prepare

    config = config_from({"rank": 16, "batch_size": 2})
    model = AceStepTransformer1DModel(
        hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, in_channels=24, audio_acoustic_hidden_dim=8,
    )  # fmt: skip
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for _, p in prepare(model, config))
    kept: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows, frames = 2, 400
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda t: t):
        denoise(
            model, torch.randn(rows, frames, 8), torch.rand(rows), torch.rand(rows),
            torch.ones(rows, frames), torch.randn(rows, 20, 128), torch.ones(rows, 20),
            torch.randn(rows, frames, 16),
        )  # fmt: skip
    activations = sum(size for pointer, size in kept.items() if pointer not in weights)
    size = Size(count, trained, 4, 128, 384, frames // 2)
    fixed = 1.1 * (4 * count + 16 * trained)
    estimated = memory_bytes(size, config, half=False) - fixed
    assert 0.5 < estimated / activations < 2.0, (estimated, activations)
