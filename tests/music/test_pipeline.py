from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luthier.audio.encode import write_audio
from luthier.errors import ModelError, RequestError
from luthier.music import templates
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.playing.schedule import step_times
from luthier.music.request import request_from
from luthier.music.torch.denoiser import denoise, encode_conditions
from tiny import SPEC, tiny_model, tiny_onnx

ASKED = {"prompt": "calm piano", "bpm": 84, "key": "Am", "duration": 2.345, "seed": 7}


@pytest.fixture(scope="module")
def pipeline() -> MusicPipeline:
    return MusicPipeline(tiny_onnx("fp32"), threads=1)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    noise = 0.3 * np.random.default_rng(0).standard_normal((2, 3 * SPEC.sample_rate))
    write_audio(tmp_path / "source.wav", noise.astype(np.float32), SPEC.sample_rate)
    return tmp_path / "source.wav"


def test_length_peak_and_seed(pipeline: MusicPipeline) -> None:
    made = pipeline.generate(request_from(ASKED))
    assert made.audio.shape == (2, round(2.345 * SPEC.sample_rate))
    assert made.audio.dtype == np.float32
    assert np.max(np.abs(made.audio)) == pytest.approx(10 ** (-1 / 20), abs=1e-6)
    assert made.seed == made.request.seed == 7
    assert made.request.steps == SPEC.default_steps
    assert set(made.timings_s) == {"source", "conditions", "denoise", "decode"}


def test_same_seed_same_bytes_other_seed_other_clip(pipeline: MusicPipeline) -> None:
    one, again = (pipeline.generate(request_from(ASKED)).audio for _ in range(2))
    other = pipeline.generate(request_from(ASKED | {"seed": 8})).audio
    assert one.tobytes() == again.tobytes()
    assert np.abs(one - other).max() > 0.01


def test_batch_counts_seeds_up(pipeline: MusicPipeline) -> None:
    batch = list(pipeline.generate_batch(request_from(ASKED | {"batch_size": 2})))
    assert [made.seed for made in batch] == [7, 8]
    alone = pipeline.generate(request_from(ASKED | {"seed": 8}))
    assert np.array_equal(batch[1].audio, alone.audio)


def test_a_seed_is_chosen_and_told(pipeline: MusicPipeline) -> None:
    made = pipeline.generate(request_from({"prompt": "x", "duration": 1}))
    again = pipeline.generate(made.request)
    assert np.array_equal(made.audio, again.audio)


@pytest.mark.parametrize("words", [{"prompt": "loud drums"}, {"bpm": 120}, {"lyrics": "la la"}])
def test_the_words_matter(pipeline: MusicPipeline, words: dict[str, Any]) -> None:
    one = pipeline.generate(request_from(ASKED)).latents
    other = pipeline.generate(request_from(ASKED | words)).latents
    assert np.abs(one - other).max() > 1e-4


def test_latents_are_those_of_torch(pipeline: MusicPipeline) -> None:
    """The same noise, prompts and schedule through the torch model, without guidance."""
    made = pipeline.generate(request_from(ASKED | {"guidance_scale": 1}))
    model = tiny_model()
    metas = templates.metas_text(bpm=84, key="A minor", duration_s=2.345)
    text = templates.prompt_text(
        "calm piano", metas, instruction=templates.instruction_for("text2music")
    )
    frames = made.latents.shape[1]
    noise = np.random.default_rng(7).standard_normal((1, frames, 8), dtype=np.float32)
    x = torch.from_numpy(noise)
    times = [*step_times(SPEC.default_steps, SPEC.default_shift).tolist(), 0.0]
    with torch.no_grad():
        states, mask = encode_conditions(model, [text], [templates.lyrics_text("")])
        context = torch.cat([model.silence[:, :frames], torch.ones(1, frames, 8)], dim=-1)
        for now, then in pairwise(times):
            t = torch.tensor([now], dtype=torch.float32)
            velocity = denoise(
                model.transformer, x, t, t, torch.ones(1, frames), states, mask, context
            )
            x = x - (now - then) * velocity
    assert made.latents == pytest.approx(x.numpy(), abs=1e-3)


@pytest.mark.parametrize("method", ["apg", "adg", "cfg"])
def test_guidance_changes_the_piece(pipeline: MusicPipeline, method: str) -> None:
    plain = pipeline.generate(request_from(ASKED | {"guidance_scale": 1})).latents
    guided = pipeline.generate(
        request_from(ASKED | {"guidance_scale": 5, "guidance_method": method})
    ).latents
    assert np.abs(plain - guided).max() > 1e-3


@pytest.mark.parametrize("task", ["cover", "repaint", "extract", "lego", "complete"])
def test_tasks_with_a_source(pipeline: MusicPipeline, task: str, recording: Path) -> None:
    asked = {
        **{"prompt": "x", "seed": 1, "task": task, "source_audio": recording, "tracks": "drums"},
        **{"reference_audio": recording, "repaint_start": 1, "repaint_end": 2},
        **{"cover_strength": 0.5},
    }
    made = pipeline.generate(request_from(asked))
    assert made.audio.shape == (2, 3 * SPEC.sample_rate)
    assert made.request.duration_s == 3.0


def test_long_pieces_are_decoded_in_tiles(pipeline: MusicPipeline) -> None:
    made = pipeline.generate(request_from(ASKED | {"duration": 30}))
    assert made.audio.shape == (2, 30 * SPEC.sample_rate)


def test_what_the_model_cannot_do_is_refused_before_work(tmp_path: Path) -> None:
    pipeline = MusicPipeline(tiny_onnx("fp32"))
    with pytest.raises(RequestError, match="at most 60 seconds"):
        pipeline.generate(request_from({"duration": 600}))


def test_nan_weights_are_found(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_onnx("fp32"), tmp_path / "model"))
    pipeline = MusicPipeline(folder)
    pipeline.null_condition = np.full_like(pipeline.null_condition, np.nan)
    with pytest.raises(ModelError, match="no numbers"):
        pipeline.generate(request_from(ASKED))
