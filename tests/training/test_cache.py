from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_features import features

from luthier.audio.decode import read_audio
from luthier.errors import TrainingError
from luthier.music.dataset.build import BuildSettings, build_dataset, load_rows
from luthier.music.torch.denoiser import encode_conditions
from luthier.music.torch.model import MusicModel
from luthier.music.training.feature_cache import Entry
from luthier.music.training.feature_encoder import Encoder, encode_audio
from luthier.music.training.training_pairs import prompts_of
from luthier.progress import Display
from luthier.training.shards import Stored
from tiny import SPEC, make_tiny_model, tiny_model
from tiny_tracks import TRACKS, make_dataset, write_tracks

SPLITS = ("train", "validation")


@pytest.fixture(scope="module")
def model() -> MusicModel:
    return tiny_model()  # the weights of `model_dir`


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What encoders were asked for; they answer as ever."""
    asked: list[str] = []

    def listen(name: str, real: Any) -> None:
        def listening(self: Encoder, *args: Any) -> Any:
            asked.append(name)
            return real(self, *args)

        monkeypatch.setattr(Encoder, name, listening)

    listen("latents", Encoder.latents)
    listen("conditions", Encoder.conditions)
    return asked


def test_entries_are_what_the_model_makes(
    dataset_dir: Path, model_dir: Path, model: MusicModel, tmp_path: Path
) -> None:
    rows = load_rows(dataset_dir, "train")
    entries = features(dataset_dir, model_dir, tmp_path)
    assert [entry.key for entry in entries] == [row["keys"] for row in rows]
    for entry, row in zip(entries, rows, strict=True):
        audio, _ = read_audio(Path(row["filename"]), sample_rate=SPEC.sample_rate, channels=2)
        frames = audio.shape[1] // SPEC.hop_length
        assert entry.frames == frames == round(row["duration"] * 50)
        assert entry.bar_frames == 100  # 120 bpm, 4/4, 50 frames a second
        whole = torch.from_numpy(audio[None, :, : frames * SPEC.hop_length])
        with torch.no_grad():
            expected = model.vae.encode(whole)[0].T
            states, mask = encode_conditions(model, *([text] for text in prompts_of(row, 1.0)))
        variant = entry.variants[0]
        torch.testing.assert_close(variant.target.read("latents"), expected)
        torch.testing.assert_close(variant.conditions.read("states"), states[0])
        assert torch.equal(variant.conditions.read("mask"), mask[0])


def test_the_prompt_is_that_of_a_request() -> None:
    row = {
        "caption": "lofi, piano",
        "lyrics": "[Instrumental]",
        "instrumental": True,
        "language": "en",
        "bpm": 83.6,
        "keyscale": "Am",
        "timesignature": "4/4",
    }
    text, lyrics = prompts_of(row, 6.0)
    assert text == (
        "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n"
        "# Caption\nlofi, piano\n\n# Metas\n- bpm: 84\n- timesignature: 4\n- keyscale: A minor\n"
        "- duration: 6 seconds\n<|endoftext|>\n"
    )
    assert lyrics == "# Languages\nen\n\n# Lyric\n[Instrumental]<|endoftext|>"
    bare = {"caption": "x", "bpm": float("nan"), "keyscale": None, "timesignature": None}
    assert "- bpm: N/A\n- timesignature: N/A\n- keyscale: N/A\n" in prompts_of(bare, 6.0)[0]


def test_tiles_do_not_show(model: MusicModel) -> None:
    audio = torch.from_numpy(
        np.random.default_rng(0).normal(0, 0.1, (2, 70 * SPEC.sample_rate + 77)).astype(np.float32)
    )
    frames = 70 * 50
    with torch.no_grad():
        expected = model.vae.encode(audio[None, :, : frames * SPEC.hop_length])[0].T
    found = encode_audio(model.vae, audio, SPEC)
    assert found.shape == (frames, SPEC.latent_channels)
    torch.testing.assert_close(found, expected)
    assert encode_audio(model.vae, audio[:, :10], SPEC).shape == (0, SPEC.latent_channels)


def test_what_is_there_is_not_encoded_again(
    dataset_dir: Path, model_dir: Path, tmp_path: Path, encoded: list[str]
) -> None:
    first = features(dataset_dir, model_dir, tmp_path)
    assert sorted(encoded) == ["conditions"] * 3 + ["latents"] * 3
    encoded.clear()
    assert features(dataset_dir, model_dir, tmp_path) == first
    assert encoded == []


def test_other_prompts_share_latents_and_another_model_shares_nothing(
    dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    other_model = make_tiny_model(tmp_path / "other", seed=1)
    first = features(dataset_dir, model_dir, tmp_path)
    longer = features(dataset_dir, model_dir, tmp_path, crop_s=2.0)
    other = features(dataset_dir, other_model, tmp_path)

    def places(entries: list[Entry], kind: str) -> set[Stored]:
        return {getattr(v, kind) for entry in entries for v in entry.variants}

    assert places(first, "target") == places(longer, "target")
    assert not places(first, "conditions") & places(longer, "conditions")
    assert not places(first, "target") & places(other, "target")


def test_a_model_with_the_same_autoencoder_shares_latents(
    dataset_dir: Path, model_dir: Path, tmp_path: Path, encoded: list[str]
) -> None:
    """A merged model, say: encoding audio is what takes long."""
    shutil.copytree(model_dir, tmp_path / "merged")
    manifest = tmp_path / "merged" / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    features(dataset_dir, model_dir, tmp_path / "cache")
    encoded.clear()
    features(dataset_dir, tmp_path / "merged", tmp_path / "cache")
    assert encoded == ["conditions"] * 3


def test_a_data_set_that_changed_is_noticed(
    model_dir: Path, tmp_path: Path, encoded: list[str]
) -> None:
    dataset = make_dataset(tmp_path)
    before = features(dataset, model_dir, tmp_path / "cache")
    encoded.clear()
    other_tone = TRACKS | {before[0].key: (6.0, 3.0)}
    write_tracks(tmp_path / "tracks", other_tone)
    (tmp_path / "tracks" / f"{before[1].key}_prompt.txt").write_text("lofi, other words")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        left = features(dataset, model_dir, tmp_path / "cache", display=Display("plain"))
    assert [entry.key for entry in left] == [before[1].key, before[2].key]
    assert "has changed since the data set was built: build it again" in said.getvalue()
    assert encoded == []
    split = BuildSettings(validation_split=0.25, repeat_count=2)
    build_dataset(tmp_path / "tracks", tmp_path / "tracks", dataset, split)
    now = {e.key: e for s in SPLITS for e in features(dataset, model_dir, tmp_path / "cache", s)}
    assert now[before[1].key].caption == "lofi, other words"
    assert now[before[0].key].variants[0].target != before[0].variants[0].target
    assert now[before[2].key] == before[2]


def test_a_track_that_cannot_be_used_is_left_out_with_its_reason(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_dataset(tmp_path)
    rows = load_rows(dataset, "train")
    gone, changed = (Path(row["filename"]) for row in rows[:2])
    gone.unlink()
    changed.write_bytes(changed.read_bytes() + b"\0")
    entries = features(dataset, model_dir, tmp_path / "cache", display=Display("plain"))
    assert [entry.key for entry in entries] == [rows[2]["keys"]]
    said = capsys.readouterr().err
    assert f"left out: {rows[0]['keys']}: {gone} does not exist" in said
    assert "has changed since the data set was built" in said
    Path(rows[2]["filename"]).write_text("no music")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(TrainingError, match="none of the 3 tracks of the train split can be"):
        features(dataset, model_dir, tmp_path / "cache")
