"""Pieces that are denoised together sound as they would alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.errors import RequestError
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import request_from
from tiny import SPEC, tiny_onnx

ASKED = {"prompt": "calm piano", "bpm": 84, "duration": 2.0}
METHODS = [
    {"guidance_scale": 1},
    {"guidance_method": "apg", "guidance_scale": 5},
    {"guidance_method": "adg", "guidance_scale": 5, "infer_method": "sde"},
    {"guidance_method": "cfg", "sampler_mode": "heun", "velocity_norm_threshold": 2},
]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def pipeline(request: pytest.FixtureRequest) -> MusicPipeline:
    return MusicPipeline(tiny_onnx(request.param), threads=1)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_seeds_is_what_each_is_alone_bit_by_bit(
    pipeline: MusicPipeline, method: dict[str, Any]
) -> None:
    request = request_from(ASKED | method | {"seeds": (4, 9, 4)})
    batch = list(pipeline.generate_batch(request))
    assert [made.seed for made in batch] == [4, 9, 4]
    for made in batch:
        alone = pipeline.generate(request_from(ASKED | method | {"seed": made.seed}))
        assert np.array_equal(made.latents, alone.latents)
        assert np.array_equal(made.audio, alone.audio)
    assert np.abs(batch[0].latents - batch[1].latents).max() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_other_words_and_lengths_beside_a_piece_change_it_by_nothing_that_is_heard(
    pipeline: MusicPipeline, method: dict[str, Any], tmp_path: Path
) -> None:
    noise = 0.3 * np.random.default_rng(0).standard_normal((2, 3 * SPEC.sample_rate))
    write_audio(tmp_path / "a.wav", noise.astype(np.float32), SPEC.sample_rate)
    asked = [
        ASKED | {"seed": 1},
        {"prompt": "loud drums, brass, a long description", "duration": 4.5, "seed": 2},
        {"lyrics": "la la la", "duration": 1.02, "seed": 3},  # an odd number of frames
        {"task": "extract", "source_audio": tmp_path / "a.wav", "seed": 4},
    ]
    requests = [request_from(values | method) for values in asked]
    together = list(pipeline.generate_many(requests))
    for made, request in zip(together, requests, strict=True):
        alone = pipeline.generate(request)
        assert made.audio.shape == alone.audio.shape
        assert made.latents == pytest.approx(alone.latents, abs=1e-5)


def test_requests_that_are_sampled_differently_come_one_after_another() -> None:
    pipeline = MusicPipeline(tiny_onnx(), threads=1)
    requests = [request_from(ASKED | {"seed": 1, "steps": n}) for n in (2, 3)]
    made = list(pipeline.generate_many(requests))
    assert [piece.request.steps for piece in made] == [2, 3]
    assert np.array_equal(made[1].latents, pipeline.generate(requests[1]).latents)


def test_seeds_are_chosen_when_none_is_said() -> None:
    pipeline = MusicPipeline(tiny_onnx(), threads=1)
    made = list(pipeline.generate_batch(request_from(ASKED | {"batch_size": 2, "steps": 1})))
    assert made[1].seed == (made[0].seed + 1) % 2**32
    again = pipeline.generate(made[1].request)
    assert np.array_equal(again.latents, made[1].latents)


def test_one_impossible_request_stops_all_before_work() -> None:
    pipeline = MusicPipeline(tiny_onnx(), threads=1)
    requests = [request_from(ASKED), request_from(ASKED | {"duration": 61})]
    with pytest.raises(RequestError, match="at most 60 seconds"):
        next(pipeline.generate_many(requests))
