from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_features import features
from safetensors.torch import load_file

from luthier.audio.decode import read_audio
from luthier.dataset.build import load_rows
from luthier.errors import TrainingError
from luthier.music.denoiser import encode_conditions
from luthier.music.model import MusicModel
from luthier.progress import Display
from luthier.training.cache import Entry
from luthier.training.encode import encode_audio
from luthier.training.variants import prompts_of
from tiny import SPEC, make_tiny_model, tiny_model


@pytest.fixture(scope="module")
def model() -> MusicModel:
    return tiny_model()  # the weights of `model_dir`


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
        torch.testing.assert_close(load_file(entry.variants[0].target)["latents"], expected)
        saved = load_file(entry.variants[0].conditions)
        torch.testing.assert_close(saved["states"], states[0])
        assert torch.equal(saved["mask"], mask[0])


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


def test_what_is_whole_stays_and_what_is_torn_is_made_again(
    dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    entries = features(dataset_dir, model_dir, tmp_path)
    contents = {path: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    for path in contents:
        os.utime(path, (1, 1))
    torn, altered = entries[0].variants[0].target, entries[1].variants[0].conditions
    torn.write_bytes(contents[torn][:-7])
    altered.write_bytes(contents[altered][:-1] + bytes([contents[altered][-1] ^ 1]))
    features(dataset_dir, model_dir, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == contents
    young = {path for path in contents if path.stat().st_mtime > time.time() - 600}
    assert young == {torn, altered}


def test_other_prompts_share_latents_and_another_model_shares_nothing(
    dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    other_model = make_tiny_model(tmp_path / "other", seed=1)
    first = features(dataset_dir, model_dir, tmp_path)
    longer = features(dataset_dir, model_dir, tmp_path, crop_s=2.0)
    other = features(dataset_dir, other_model, tmp_path)

    def files(entries: list[Entry], kind: str) -> set[Path]:
        return {getattr(v, kind) for entry in entries for v in entry.variants}

    assert files(first, "target") == files(longer, "target")
    assert not files(first, "conditions") & files(longer, "conditions")
    assert not files(first, "target") & files(other, "target")


def test_a_track_that_cannot_be_used_is_left_out_with_its_reason(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiny_tracks import make_dataset

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
