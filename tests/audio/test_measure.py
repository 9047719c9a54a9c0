from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from luthier.audio.clipping import ClippingMeter
from luthier.audio.kweight import KWeighting, k_coefficients
from luthier.audio.loudness import integrated_loudness
from luthier.audio.measure import Meter, measure, quality_score
from luthier.errors import AudioError

RATE = 48000


def sine(level_db: float, seconds: float, hz: float = 1000.0, channels: int = 2) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    wave = 10 ** (level_db / 20) * np.sin(2 * np.pi * hz * t)
    return np.tile(wave, (channels, 1)).astype(np.float32)


def test_filters_are_those_of_the_standard():
    # ITU-R BS.1770-4, tables 1 and 2, for 48 kHz.
    (shelf_b, shelf_a), (pass_b, pass_a) = k_coefficients(48000)
    np.testing.assert_allclose(
        shelf_b, (1.53512485958697, -2.69169618940638, 1.19839281085285), atol=1e-10
    )
    np.testing.assert_allclose(shelf_a, (-1.69065929318241, 0.73248077421585), atol=1e-10)
    np.testing.assert_allclose(pass_b, (1.0, -2.0, 1.0))
    np.testing.assert_allclose(pass_a, (-1.99004745483398, 0.99007225036621), atol=1e-10)


def test_weighting_equals_the_recursive_filter():
    signal_of_scipy = pytest.importorskip("scipy.signal")
    noise = np.random.default_rng(0).standard_normal(10 * RATE).astype(np.float32)
    expected = noise.astype(np.float64)
    for b, a in k_coefficients(RATE):
        expected = signal_of_scipy.lfilter(b, (1.0, *a), expected)
    weighting = KWeighting(RATE, 1)
    blocks = [weighting.filter(noise[None, i : i + 96000])[0] for i in range(0, noise.size, 96000)]
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=2e-6)


# The cases of EBU Tech 3341, tests 1 to 5 (stereo sine of 1 kHz): levels, seconds, loudness.
@pytest.mark.parametrize(
    ("parts", "lufs"),
    [
        ([(-23, 20)], -23.0),
        ([(-33, 20)], -33.0),
        ([(-36, 10), (-23, 60), (-36, 10)], -23.0),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),
    ],
)
def test_loudness_of_the_ebu_cases(parts, lufs):
    samples = np.concatenate([sine(level, seconds) for level, seconds in parts], axis=1)
    assert integrated_loudness(samples, RATE) == pytest.approx(lufs, abs=0.1)


@pytest.mark.parametrize("rate", [22050, 44100, 96000])
def test_loudness_at_other_rates(rate):
    t = np.arange(5 * rate) / rate
    samples = np.tile(0.1 * np.sin(2 * np.pi * 997 * t), (1, 1)).astype(np.float32)
    assert integrated_loudness(samples, rate) == pytest.approx(-23.01, abs=0.1)


def test_channels_count_as_the_standard_says():
    quiet = integrated_loudness(sine(-20, 2.0, channels=1), RATE)
    assert integrated_loudness(sine(-20, 2.0, channels=2), RATE) == pytest.approx(
        quiet + 3.01, 0.01
    )
    names = ("FL", "FR", "FC", "LFE", "BL", "BR")
    for channel, gain in ((0, 1.0), (3, 0.0), (4, 1.41)):
        surround = np.zeros((6, 2 * RATE), np.float32)
        surround[channel] = sine(-20, 2.0, channels=1)[0]
        found = integrated_loudness(surround, RATE, names)
        expected = quiet + 10 * np.log10(gain) if gain else None
        assert found == (expected if expected is None else pytest.approx(expected, abs=0.01))


def test_silence_has_no_loudness():
    assert integrated_loudness(np.zeros((2, RATE), np.float32), RATE) is None
    assert integrated_loudness(sine(-20, 0.1), RATE) is not None


def test_levels_of_a_sine():
    found = measure(sine(-6, 2.0), RATE)
    assert found.peak_db == pytest.approx(-6, abs=0.02)
    assert found.rms_db == pytest.approx(-9.01, abs=0.02)
    assert found.duration_s == 2.0
    assert (found.clipping_ratio, found.silence_ratio, found.dc_offset) == (0, 0, 0)
    assert quality_score(found) == (100, [])


def test_only_runs_at_full_scale_are_clipping():
    samples = np.zeros((1, 1000), np.float32)
    samples[0, [10, 11, 20, 30]] = 1.0  # peaks, as a normalised file has them
    assert measure(samples, RATE).clipping_ratio == 0
    samples[0, 100:105] = -1.0
    assert measure(samples, RATE).clipping_ratio == pytest.approx(0.005)
    samples[0, 996:] = 1.0
    found = measure(samples, RATE)
    assert (found.clipping_ratio, found.clips) == (pytest.approx(0.009), 2)


def test_runs_go_on_from_block_to_block():
    samples = np.zeros(1000, np.float32)
    for start, length in ((98, 4), (299, 1), (300, 2), (500, 130), (698, 2), (702, 1), (997, 3)):
        samples[start : start + length] = 1.0
    samples[300:302] = -1.0  # another sign, another run
    for size in (1, 7, 100, 1000):
        meter = ClippingMeter(1)
        for start in range(0, 1000, size):
            block = samples[None, start : start + size]
            meter.add(block, float(np.abs(block).max()))
        meter.finish()
        assert (meter.clipped, meter.runs) == (4 + 130 + 3, 3)


@pytest.mark.parametrize(
    ("samples", "image"),
    [
        (sine(-20, 0.5, channels=1), "mono"),
        (sine(-20, 0.5), "dual mono"),
        (sine(-20, 0.5) * np.array([[1], [-1]], np.float32), "inverted mono"),
        (sine(-20, 0.5) * np.array([[1], [0]], np.float32), "one-sided"),
        (sine(-20, 0.5) * np.array([[1], [0.9]], np.float32), "stereo"),
        (sine(-20, 0.5, channels=6), "surround"),
    ],
)
def test_what_the_channels_hold(samples, image):
    assert measure(samples, RATE).image == image


def test_blocks_change_nothing():
    rng = np.random.default_rng(1)
    samples = rng.uniform(-0.5, 0.5, (2, 7 * RATE + 13)).astype(np.float32)
    whole = measure(samples, RATE)
    meter = Meter(RATE, ("FL", "FR"))
    for start in range(0, samples.shape[1], 5 * meter.block // 20):
        meter.add(samples[:, start : start + 5 * meter.block // 20])
    found = asdict(meter.result())
    for name, value in asdict(whole).items():
        assert found[name] == (
            pytest.approx(value, abs=0.02) if isinstance(value, float) else value
        )


def test_silence_counts_frames_not_zero_crossings():
    half = np.concatenate([sine(-40, 1.0), np.zeros((2, RATE), np.float32)], axis=1)
    assert measure(half, RATE).silence_ratio == pytest.approx(0.5, abs=0.01)
    assert measure(sine(-50, 1.0), RATE).silence_ratio == 0


def test_dc_of_the_worst_channel():
    samples = sine(-20, 1.0)
    samples[1] -= 0.1
    assert measure(samples, RATE).dc_offset == pytest.approx(-0.1, abs=1e-4)


def test_the_score_and_its_reasons():
    loud = np.clip(sine(6, 1.0), -1, 1)
    loud = np.concatenate([loud, np.zeros((2, RATE), np.float32)], axis=1)
    found = measure(loud, RATE)
    score, reasons = quality_score(found)
    assert score == 0
    assert "clipped" in reasons[0]
    assert "below -60 dB" in reasons[1]
    quiet = measure(np.concatenate([sine(-20, 3), np.zeros((2, RATE), "f4")], axis=1), RATE)
    assert quality_score(quiet)[0] == pytest.approx(100 - 50 * 0.25, abs=1)


def test_digital_silence_is_measured_as_json():
    found = measure(np.zeros((2, RATE), np.float32), RATE)
    assert found.peak_db == -200
    assert found.silence_ratio == 1
    json.dumps(asdict(found), allow_nan=False)
    with pytest.raises(AudioError, match="no samples"):
        measure(np.zeros((2, 0), np.float32), RATE)
