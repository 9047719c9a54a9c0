"""Pictures: decoded again, not only written."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from luthier.report.figures import (
    loss_svg,
    png_bytes,
    smoothed,
    spectrogram_png,
    ticks,
    waveform_svg,
)

RATE = 24_000


def decoded(png: bytes) -> NDArray[np.uint8]:
    """The picture as another library reads it, (height, width, 3)."""
    with av.open(io.BytesIO(png), format="png_pipe") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def tone(hz: float, seconds: float = 2.0) -> NDArray[np.float32]:
    time = np.arange(int(seconds * RATE)) / RATE
    return np.repeat(0.5 * np.sin(2 * np.pi * hz * time)[None], 2, axis=0).astype(np.float32)


def test_a_png_holds_its_pixels() -> None:
    generator = np.random.default_rng(0)
    palette = generator.integers(0, 256, (256, 3), dtype=np.uint8)
    pixels = generator.integers(0, 256, (37, 53), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(png_bytes(pixels, palette)), palette[pixels])


@pytest.mark.parametrize(("low", "high"), [(200, 400), (400, 2000), (2000, 8000)])
def test_higher_tones_stand_higher(low: float, high: float) -> None:
    def row(hz: float) -> int:
        light = decoded(spectrogram_png(tone(hz), RATE)).astype(int).sum(axis=2)
        return int(light[:, 100:-100].mean(axis=1).argmax())

    assert row(high) < row(low)


def test_time_runs_rightwards() -> None:
    samples = tone(440)
    samples[:, :RATE] = 0
    light = decoded(spectrogram_png(samples, RATE)).astype(int).sum(axis=(0, 2))
    dark, half = light.min(), light.size // 2
    assert (light[: half - 30] == dark).all()
    assert light[half + 30 :].mean() > 1.3 * dark


@pytest.mark.parametrize("seconds", [0.01, 1.0, 40.0])
def test_any_length_is_about_as_wide(seconds: float) -> None:
    height, width, _ = decoded(spectrogram_png(tone(440, seconds), RATE)).shape
    assert height == 128
    assert width <= 700


def test_silence_is_dark() -> None:
    assert decoded(spectrogram_png(np.zeros((2, RATE), np.float32), RATE)).max() < 60


def test_a_spectrogram_is_small() -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(2, 10 * RATE)).astype(np.float32)
    assert len(spectrogram_png(noise, RATE)) < 100_000


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80), st.integers(0, 30))
def test_smoothing_stays_within_the_values(values: list[float], span: int) -> None:
    result = smoothed(values, span)
    assert len(result) == len(values)
    slack = 1e-6 * max(1.0, *map(abs, values))
    assert min(values) - slack <= min(result)
    assert max(result) <= max(values) + slack


def test_smoothing_does_not_lag() -> None:
    line = [float(i) for i in range(100)]
    assert smoothed(line, 20)[20:80] == pytest.approx(line[20:80])


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
@settings(max_examples=200)
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    slack = 1e-6 * max(1.0, abs(low), span)
    assert 1 <= len(found) <= 7
    assert low - slack <= found[0]
    assert found[-1] <= low + span + slack


def test_round_ticks() -> None:
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(3, 3) == [3]


def test_a_falling_loss_falls() -> None:
    picture = ET.fromstring(loss_svg([(i, 2.0 - i / 100) for i in range(100)]))
    line = next(e for e in picture.iter() if e.get("class") == "line").get("d")
    assert line is not None
    points = [tuple(map(float, p.split())) for p in line[1:].split("L")]
    assert points[0][0] < points[-1][0]
    assert points[0][1] < points[-1][1]  # y grows downwards
    assert "100 points" in (picture.get("aria-label") or "")


@pytest.mark.parametrize(
    "points", [[], [(1, 1.0)], [(1, float("nan")), (2, 1.0), (3, float("inf"))]]
)
def test_fewer_than_two_points_draw_nothing(points: list[tuple[int, float]]) -> None:
    assert loss_svg(points) == ""


@pytest.mark.parametrize("loss", [0.0, -1.0, 1e-9, 1e9])
def test_a_flat_loss_is_drawn(loss: float) -> None:
    ET.fromstring(loss_svg([(1, loss), (2, loss)]))


def test_few_values_are_points_and_steps_are_whole_numbers() -> None:
    text = loss_svg([(20, 0.8), (21, 0.7)], size=(360, 190))
    assert text.count('class="point"') == 2
    assert ">step 20</text>" in text
    assert ">20.5</text>" not in text
    assert 'class="point"' not in loss_svg([(i, 1.0 / i) for i in range(1, 60)])


def test_a_spike_does_not_flatten_the_curve() -> None:
    losses = [1.0 - i / 400 for i in range(400)]
    losses[50] = 1e6
    text = loss_svg(list(enumerate(losses)))
    assert "1e+06" not in text


def test_a_long_run_stays_light() -> None:
    generator = np.random.default_rng(0)
    points = [(i, float(generator.normal())) for i in range(100_000)]
    assert len(loss_svg(points)) < 60_000


def test_beats_are_drawn_where_they_are() -> None:
    picture = ET.fromstring(waveform_svg(tone(440), RATE, (0.0, 1.0, 9.0), bins=100))
    beats = next(e for e in picture.iter() if e.get("class") == "beats").get("d")
    assert beats == "M0.0 33V40M50.0 33V40"  # the one behind the end is left out
    assert "beats" not in waveform_svg(tone(440), RATE)


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_a_short_waveform_is_drawn(count: int) -> None:
    ET.fromstring(waveform_svg(np.zeros((2, count), np.float32), RATE, (0.0,)))
