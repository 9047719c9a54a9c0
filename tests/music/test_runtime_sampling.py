"""The integrators on fields whose answer is known, and stopping between steps."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.errors import CancelledError, ModelError, RequestError
from luthier.music.playing.conditioning import Extent
from luthier.music.playing.pieces import Conditions, Piece, plan_of
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.playing.sampler import sample
from luthier.music.request import request_from
from luthier.music.resolve import resolve
from luthier.progress import SILENT
from tiny import SPEC, tiny_onnx

Floats = NDArray[np.float32]


def piece(request: Any) -> Piece:
    draw = np.random.default_rng(5)
    empty = Conditions(*(np.zeros((1, 0, 1), np.float32) for _ in range(3)))
    noise = draw.standard_normal((1, 40, 8), dtype=np.float32)
    return Piece(request, Extent(1, 40), noise, draw, empty, None, None, None)


def solved(field: Any, **asked: Any) -> tuple[Floats, Floats]:
    """Noise and result of a velocity `field(x, t)`, without guidance."""
    request = resolve(request_from({"guidance_scale": 1} | asked), SPEC)

    def denoiser(x: Floats, time: float, *, late: bool, guided: bool) -> tuple[Floats, Floats]:
        velocity = field(x, time).astype(np.float32)
        return velocity, velocity

    made = piece(request)
    return made.noise, sample(denoiser, plan_of(request, SPEC), [made], SILENT)[0]  # type: ignore[arg-type]


def test_a_straight_path_needs_one_step() -> None:
    """v = noise − music is constant on the way from one to the other."""
    music = np.float32(0.3)
    start = np.random.default_rng(5).standard_normal((1, 40, 8), dtype=np.float32)
    _, result = solved(lambda x, t: start - music, steps=1)
    assert result == pytest.approx(np.full_like(result, music), abs=1e-6)


def test_heun_is_of_second_order() -> None:
    """dx/dt = x from 1 to 0 shrinks x by e; halving the step quarters Heun's error."""

    def error(sampler: str, steps: int) -> float:
        noise, result = solved(lambda x, t: x, sampler_mode=sampler, steps=steps)
        return float(np.abs(result - noise / np.e).max())

    assert error("heun", 10) / error("heun", 20) == pytest.approx(4, rel=0.15)
    assert error("euler", 10) / error("euler", 20) == pytest.approx(2, rel=0.15)


def test_heun_s_last_step_is_euler_s() -> None:
    """As in ACE-Step: at t = 0 there is no velocity to correct by."""
    times: list[float] = []

    def field(x: Floats, time: float) -> Floats:
        times.append(time)
        return x

    noise, result = solved(field, sampler_mode="heun", steps=2, shift=1)
    assert times == [1.0, 0.5, 0.5]  # both ends of the first step, the start of the last
    half = noise * (1 - 0.5 + 0.5**2 / 2)  # one Heun step of dx/dt = x
    assert result == pytest.approx(half * 0.5, abs=1e-6)


def test_the_sde_ends_in_music_and_draws_its_own_noise() -> None:
    def towards(x: Floats, t: float) -> Floats:
        return (x - np.float32(0.7)) / np.float32(t)  # whatever x is, the music is 0.7

    _, result = solved(towards, infer_method="sde", steps=5)
    assert result == pytest.approx(np.full_like(result, 0.7), abs=1e-5)
    _, ode = solved(lambda x, t: x, steps=5)
    _, sde = solved(lambda x, t: x, infer_method="sde", steps=5)
    _, again = solved(lambda x, t: x, infer_method="sde", steps=5)
    assert np.abs(ode - sde).max() > 0.1
    assert np.array_equal(sde, again)


def test_a_velocity_is_limited_in_norm() -> None:
    noise, result = solved(lambda x, t: 100 * x, velocity_norm_threshold=0.5, steps=1)
    assert result == pytest.approx(0.5 * noise, abs=1e-5)
    _, free = solved(lambda x, t: 0.2 * x, velocity_norm_threshold=0.5, steps=1)
    assert free == pytest.approx(0.8 * noise, abs=1e-5)


def test_a_velocity_keeps_some_of_the_one_before() -> None:
    """Velocities 1, then 0 with a quarter of the 1: 1 · ½ + ¼ · ½ of the way."""
    noise, result = solved(
        lambda x, t: np.full_like(x, t == 1.0), velocity_ema_factor=0.25, steps=2
    )
    assert noise - result == pytest.approx(np.full_like(noise, 0.625), abs=1e-6)


def test_nan_is_found_in_its_step() -> None:
    with pytest.raises(ModelError, match=r"NaN\) in step 2 of 4"):
        solved(lambda x, t: x * (np.nan if t < 1 else 1), steps=4)


class StopsAfter:
    """Asks to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("looks", [0, 1, 3, 5])
def test_work_stops_between_steps(looks: int) -> None:
    pipeline = MusicPipeline(tiny_onnx(), threads=1)
    request = request_from({"prompt": "x", "duration": 1, "seed": 1, "steps": 4})
    cancel = StopsAfter(looks)
    with pytest.raises(CancelledError, match="stopped on request"):
        pipeline.generate(request, cancel=cancel)
    assert cancel.left == -1
    assert pipeline.generate(request, cancel=StopsAfter(100)).seed == 1


def test_an_event_stops_work_too() -> None:
    event = threading.Event()
    event.set()
    with pytest.raises(CancelledError):
        MusicPipeline(tiny_onnx(), 1).generate(request_from({"prompt": "x"}), cancel=event)


def test_turbo_knows_no_guidance() -> None:
    spec = SPEC.model_copy(update={"is_turbo": True})
    request = resolve(request_from({"guidance_scale": 9}), spec)
    assert plan_of(request, spec).scale_at(0.5) == 1.0


def test_guidance_keeps_to_its_interval() -> None:
    request = resolve(request_from({"cfg_interval_start": 0.2, "cfg_interval_end": 0.6}), SPEC)
    plan = plan_of(request, SPEC)
    assert [plan.scale_at(t) for t in (0.1, 0.2, 0.4, 0.6, 0.7)] == [1, 2, 2, 2, 1]


def test_a_wrong_precision_name_is_a_sentence(tmp_path: Any) -> None:
    from luthier.music.export.export import export_model

    with pytest.raises(RequestError, match=r"fp8.*fp32"):
        export_model(tmp_path, tmp_path / "out", precision="fp8")  # type: ignore[arg-type]
