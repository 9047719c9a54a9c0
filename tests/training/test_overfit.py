"""The proof that training learns: four tracks by heart, from their own prompts and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_features import constants_of

from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.files import read_json, write_json, write_text
from luthier.music.dataset.build import BuildSettings, build_dataset
from luthier.music.mini import torch_folder
from luthier.music.torch.model_folder import open_model
from luthier.music.training.batches import Constants
from luthier.music.training.feature_cache import Entry, cache_features, load_features
from luthier.music.training.feature_encoder import Encoder
from luthier.music.training.previews import Player
from luthier.training.config import TrainConfig, config_from
from luthier.training.metrics import read_metrics
from luthier.training.run import train
from luthier.training.weights_io import load_trained
from tiny_tracks import write_tracks

Make = Callable[..., TrainConfig]
TONES = {"calm": (2.0, 4.0), "dusk": (3.0, 4.0), "rain": (5.0, 4.0), "walk": (7.0, 4.0)}
EXAMPLES = Path(__file__).parents[2] / "examples" / "tracks"
MUSIC = ("window-seat", "last-tram", "slow-kettle", "attic-light")


def correlations(
    model_dir: Path, checkpoint: Path, entries: list[Entry], constants: Constants, crop_s: float
) -> np.ndarray:
    """Of what each track's prompt (row) gives with each track's latents (column)."""
    model = open_model(model_dir)
    settings = config_from({"samples": len(entries), "sample_s": crop_s})
    transformer = model.part("transformer")
    load_trained(transformer, checkpoint)
    player = Player(model, entries, constants, settings, torch.device("cpu"))
    played, real = [], []
    with torch.no_grad():
        for index, entry in enumerate(entries):
            latents = player._latents(transformer, index)[0]
            played.append(latents.flatten())
            target = entry.variants[0].target
            real.append(target.read("latents", 0, len(latents)).flatten())
    middle = torch.stack(real).mean(dim=0)  # what all share says nothing about the prompt
    table = torch.corrcoef(torch.stack([*played, *real]) - middle)
    return table[: len(played), len(played) :].numpy()


def write_music(folder: Path) -> None:
    """Four of the example tracks, ten seconds each, with what their labels say as prompts."""
    labels = read_json(EXAMPLES / "labels.json")
    for name in MUSIC:
        audio, rate = read_audio(EXAMPLES / f"{name}.mp3")
        write_audio(folder / f"{name}.wav", audio[:, : 10 * rate], rate)
        said = labels[name]
        write_text(folder / f"{name}_prompt.txt", f"lofi hip hop, {', '.join(said['instruments'])}")
        write_text(folder / f"{name}_lyrics.txt", "[Instrumental]")
        facts = {"bpm": said["bpm"], "keyscale": said["key"], "timesignature": "4"}
        facts |= {"duration": 10.0, "language": "en", "instrumental": True}
        write_json(folder / f"{name}.json", facts | {"style_ids": ["CORE-01"]})
    write_json(folder / "sources.json", read_json(EXAMPLES / "sources.json"))


def overfit(tmp_path: Path, model_dir: Path, settings: TrainConfig) -> tuple[float, np.ndarray]:
    """Train on the four tracks in `tmp_path`/tracks: (last loss / first loss), and the table of
    correlations.
    """
    split = BuildSettings(validation_split=0.0, repeat_count=1)
    dataset = tmp_path / "set"
    build_dataset(tmp_path / "tracks", tmp_path / "tracks", dataset, split)
    result = train(model_dir, dataset, tmp_path / "run", settings, cache_dir=tmp_path / "cache")
    losses = [row["loss"] for row in read_metrics(result.metrics)]
    encoder = Encoder(open_model(model_dir), torch.device("cpu"))
    index = cache_features(dataset, "train", encoder, tmp_path / "cache", crop_s=settings.crop_s)
    table = correlations(
        model_dir, result.checkpoint, load_features(index), constants_of(model_dir),
        settings.crop_s,
    )  # fmt: skip
    return float(np.mean(losses[-20:]) / np.mean(losses[:5])), table


def assert_by_heart(table: np.ndarray, own: float) -> None:
    diagonal = np.diag(table)
    assert (diagonal >= own).all(), table
    # With another track's prompt it is that other track which comes out.
    shuffled = np.array([table[i, (i + 1) % len(table)] for i in range(len(table))])
    assert (shuffled < 0.5).all(), table
    assert (diagonal > shuffled + 0.3).all(), table


def test_a_tiny_model_begins_to_know_four_tracks(tmp_path: Path, model_dir: Path) -> None:
    """The short version. That prompts tell tracks apart needs a text encoder that was trained."""
    settings = config_from(
        {
            "adapter": "full", "learning_rate": 0.003, "max_steps": 120, "batch_size": 8,
            "crop_s": 2.0, "crop_start": "first", "save_every": 120, "samples": 0,
            "tensorboard": False, "warm_up": 20,
        }
    )  # fmt: skip
    write_tracks(tmp_path / "tracks", TONES)
    ratio, table = overfit(tmp_path, model_dir, settings)
    assert ratio < 0.6
    assert np.isfinite(table).all()


@pytest.mark.slow
def test_mini_learns_four_tracks_by_heart(tmp_path: Path) -> None:
    settings = config_from(
        {
            "adapter": "full", "learning_rate": 0.001, "max_steps": 1500, "batch_size": 8,
            "crop_s": 3.0, "crop_start": "first", "save_every": 1500, "samples": 0,
            "tensorboard": False,
        }
    )  # fmt: skip
    write_music(tmp_path / "tracks")
    ratio, table = overfit(tmp_path, torch_folder(), settings)
    assert ratio < 0.2
    assert_by_heart(table, 0.9)
