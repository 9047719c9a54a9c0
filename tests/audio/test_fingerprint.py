from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from band import RATE, play
from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.audio.fingerprint import MAX_SECONDS, Fingerprinter, decode, similarity
from luthier.audio.resample import resample
from luthier.errors import AudioError

EXAMPLES = Path(__file__).parents[2] / "examples" / "tracks"
SECONDS = 16


def fingerprint(samples, rate=RATE, block=4096):
    maker = Fingerprinter(rate)
    for start in range(0, samples.shape[-1], block):
        maker.add(samples[..., start : start + block])
    return maker.text()


@pytest.fixture(scope="module")
def tracks():
    """Real music by one composer, made with the same instruments; 16 s of it each."""
    found = {}
    for path in sorted(EXAMPLES.glob("*.mp3"))[:5]:
        samples, rate = read_audio(path)
        found[path.stem] = (samples[:, 3 * rate : (3 + SECONDS) * rate], rate)
    return found


@pytest.fixture(scope="module")
def prints(tracks):
    return {name: fingerprint(*track) for name, track in tracks.items()}


def test_different_tracks_of_one_composer_are_not_alike(prints):
    worst = max(similarity(a, b) for a, b in combinations(prints.values(), 2))
    assert worst < 0.35


@pytest.mark.parametrize("change", ["mp3", "opus", "gain", "mono", "rate", "start", "all"])
def test_another_version_of_a_track_is_recognised(tracks, prints, tmp_path, change):
    name, (samples, rate) = next(iter(tracks.items()))
    if change in ("start", "all"):
        samples = samples[:, round(2.345 * rate) :]
    if change in ("gain", "all"):
        samples = samples * np.float32(0.05)
    if change == "mono":
        samples = samples.mean(axis=0)
    if change in ("rate", "opus", "all"):
        samples, rate = resample(samples, rate, 24000), 24000
    if change in ("mp3", "opus", "all"):
        path = tmp_path / ("x.opus" if change == "opus" else "x.mp3")
        write_audio(path, samples, rate, bitrate_kbps=48)
        samples, rate = read_audio(path)
    found = fingerprint(samples, rate)
    assert similarity(found, prints[name]) > 0.6
    assert similarity(prints[name], found) == similarity(found, prints[name])
    assert max(similarity(found, text) for n, text in prints.items() if n != name) < 0.35


def test_a_fingerprint_is_like_itself_and_does_not_depend_on_blocks(tracks, prints):
    name, (samples, rate) = next(iter(tracks.items()))
    assert similarity(prints[name], prints[name]) == 1
    assert similarity(fingerprint(samples, rate, block=1013), prints[name]) > 0.999
    assert len(prints[name]) < 50 * SECONDS


def test_what_has_nothing_to_recognise_is_like_nothing():
    assert fingerprint(np.zeros((2, 5 * RATE), np.float32)) == ""
    assert fingerprint(np.zeros((1, 0), np.float32)) == ""
    assert fingerprint(play(90, "C", 0.3)) == ""
    short = fingerprint(play(90, "C", 2.0))
    assert short
    assert similarity(short, short) == 0
    assert similarity("", "") == 0


def test_two_silences_around_different_music_do_not_make_it_alike():
    pause = np.zeros((2, 20 * RATE), np.float32)
    first, second = (
        fingerprint(np.concatenate([pause, play(bpm, key, 8.0), pause], axis=1))
        for bpm, key in ((80, "C major"), (97, "F# minor"))
    )
    assert similarity(first, second) < 0.5


def test_a_long_track_costs_no_more_than_its_first_ten_minutes():
    maker = Fingerprinter(8000)
    noise = np.random.default_rng(0).standard_normal((1, 8000 * 60)).astype(np.float32)
    for _ in range(12):
        maker.add(noise)
    words = decode(maker.text())
    assert len(words) == pytest.approx(MAX_SECONDS * 8, rel=0.01)
    with pytest.raises(ValueError, match="nothing can be added"):
        maker.add(noise)


def test_text_that_is_no_fingerprint():
    with pytest.raises(AudioError, match="is not a fingerprint"):
        decode("no base64!")
    with pytest.raises(AudioError, match="is not a fingerprint"):
        decode("YWI=")
