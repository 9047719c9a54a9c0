from __future__ import annotations

import numpy as np
import pytest

from band import play
from luthier.audio.bandwidth import Bandwidth, BandwidthMeter
from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.audio.resample import resample

RATE = 44100


def bandwidth(samples: np.ndarray, rate: int) -> Bandwidth:
    meter = BandwidthMeter(rate)
    for start in range(0, samples.shape[1], 2 * rate):
        meter.add(samples[:, start : start + 2 * rate])
    return meter.result()


def noise(rate: int, seconds: float = 6.0, slope_db_per_octave: float = 4.5) -> np.ndarray:
    """What music looks like on average: falling from low to high."""
    count = round(rate * seconds)
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal((2, count)))
    hz = np.maximum(np.fft.rfftfreq(count, 1 / rate), 40)
    wave = np.fft.irfft(spectrum * (hz / 40) ** (-slope_db_per_octave / 6.02), count)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.mark.parametrize("low", [8000, 11025, 16000, 22050, 24000])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_an_upsampled_file_is_recognised(low, rate):
    found = bandwidth(resample(noise(low), low, rate, quality="VHQ"), rate)
    assert f"upsampled from {low} Hz" in found.verdict
    assert 0.85 * low / 2 <= found.hz <= 1.03 * low / 2


def test_an_upsampled_band_is_recognised_in_16_bits(tmp_path):
    write_audio(tmp_path / "a.wav", resample(play(90, "A minor", 6.0, rate=8000), 8000, RATE), RATE)
    samples, rate = read_audio(tmp_path / "a.wav")
    assert "upsampled from 8000 Hz" in bandwidth(samples, rate).verdict


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize(("kbps", "least", "most"), [(96, 64, 112), (128, 112, 160)])
def test_an_mp3_is_recognised_by_its_edge(tmp_path, rate, kbps, least, most):
    write_audio(tmp_path / "a.mp3", noise(rate, slope_db_per_octave=3), rate, bitrate_kbps=kbps)
    samples, _ = read_audio(tmp_path / "a.mp3")
    write_audio(tmp_path / "a.wav", samples, rate)  # as if it were the original
    samples, _ = read_audio(tmp_path / "a.wav")
    found = bandwidth(samples, rate)
    assert found.is_wall
    assert found.verdict is not None
    said = int(found.verdict.split("about ")[1].split()[0])
    assert least <= said <= most


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_a_full_band_is_nothing_to_remark(rate):
    found = bandwidth(noise(rate), rate)
    assert found.verdict is None
    assert found.hz > 0.9 * min(rate, 48000) / 2


@pytest.mark.parametrize("slope", [6, 12, 18, 24])
def test_dull_music_is_not_cut_music(slope):
    """Lo-fi fades out towards high frequencies: no edge, whatever the slope."""
    assert bandwidth(noise(RATE, slope_db_per_octave=slope), RATE).verdict is None


@pytest.mark.parametrize("hz", [1000, 4500, 7920, 15000])
def test_a_tone_has_no_edge(hz):
    t = np.arange(3 * RATE) / RATE
    tone = np.rint(0.3 * 2**15 * np.sin(2 * np.pi * hz * t)) / 2**15
    assert bandwidth(tone.astype(np.float32)[None], RATE).verdict is None


def test_silence_and_few_samples():
    t = np.arange(3 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)[None]
    assert bandwidth(0 * tone, RATE) == Bandwidth(0.0, False, None)
    assert bandwidth(tone[:, :10], RATE).verdict is None
