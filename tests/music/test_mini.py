"""The built-in model: small, whole, and playing as promised."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.decode import read_audio
from luthier.cli.main import main
from luthier.errors import ModelError
from luthier.files import read_json
from luthier.music.mini import onnx_folder, torch_folder
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import request_from
from luthier.music.spec import load_spec
from luthier.music.torch.model import load_model
from tiny_lm import tiny_lm_onnx

MAX_BYTES = 40_000_000


@pytest.fixture(scope="module")
def pipeline() -> MusicPipeline:
    return MusicPipeline()


def made(pipeline: MusicPipeline, seed: int, seconds: float = 4.0) -> np.ndarray:
    request = request_from(
        {"prompt": "pop, piano, drums", "bpm": 100, "duration": seconds, "seed": seed}
    )
    return pipeline.generate(request).audio


def test_all_of_it_is_small() -> None:
    # The whole folder: what an interrupted packing left behind would ship as well.
    files = [p for p in onnx_folder().parent.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_both_halves_are_one_model_and_whole() -> None:
    model = load_model(torch_folder())
    assert model.spec == load_spec(onnx_folder())
    silence = np.load(onnx_folder() / "silence_latent.npy").astype(np.float32)
    np.testing.assert_allclose(model.silence[:, : silence.shape[1]].numpy(), silence, atol=2e-3)


def test_same_seed_same_bytes_another_seed_another_clip(pipeline: MusicPipeline) -> None:
    def digest(audio: np.ndarray) -> str:
        return hashlib.sha256(audio.tobytes()).hexdigest()

    assert digest(made(pipeline, 1)) == digest(made(pipeline, 1))
    assert digest(made(pipeline, 1)) != digest(made(pipeline, 2))


@pytest.mark.parametrize("seed", [3, 4])
def test_clips_are_sound(pipeline: MusicPipeline, seed: int) -> None:
    audio = made(pipeline, seed)
    assert audio.shape == (2, 4 * pipeline.spec.sample_rate)
    assert np.isfinite(audio).all()
    assert float(np.abs(audio).max()) < 0.95
    assert float(np.sqrt(np.mean(audio**2))) > 0.01


def test_it_plays_audio_codes(pipeline: MusicPipeline) -> None:
    asked = {"prompt": "pop, piano, drums", "duration": 4.0, "seed": 1}
    codes = "".join(f"<|audio_code_{number}|>" for number in range(100, 2100, 100))
    one = pipeline.generate(request_from(asked | {"audio_codes": codes}))
    other = pipeline.generate(request_from(asked | {"audio_codes": [7] * 20}))
    assert one.audio.shape == (2, 4 * pipeline.spec.sample_rate)
    assert np.isfinite(one.audio).all()
    assert np.abs(one.latents - other.latents).max() > 0.1


def test_it_plays_what_a_planner_thinks(tmp_path: Path) -> None:
    planner = ["--thinking", "--planner", str(tiny_lm_onnx()), "--lm-temperature", "0"]
    flags = ["--duration", "10", "--seed", "3", "--steps", "4", "--threads", "1", "-q"]
    out = tmp_path / "x.wav"
    assert main(["generate", "calm piano", *planner, *flags, "--out", str(out)]) == 0
    audio, rate = read_audio(out)
    assert audio.shape == (2, 10 * rate)
    request = read_json(next(tmp_path.glob("*.json")))["config"]["request"]
    assert len(request["audio_codes"]) == 50


def test_a_corrupted_graph_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    shutil.copytree(onnx_folder(), folder)
    path = folder / "dit_decoder.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"dit_decoder\.onnx"):
        made(MusicPipeline(folder), 1)
