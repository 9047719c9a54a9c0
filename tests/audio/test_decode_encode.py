from __future__ import annotations

import resource
from pathlib import Path

import av
import numpy as np
import pytest

from luthier.audio.decode import mix_to, read_audio
from luthier.audio.encode import write_audio
from luthier.errors import AudioError, PathError, RequestError, StorageError


def tone(seconds: float = 2.0, rate: int = 48000, channels: int = 2) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    waves = [0.5 * np.sin(2 * np.pi * 440 * (c + 1) * t) for c in range(channels)]
    return np.array(waves, np.float32)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "pcm16", 2**-15),
        ("a.wav", "pcm24", 2**-23),
        ("a.wav", "float", 0.0),
        ("a.flac", "pcm16", 2**-15),
        ("a.flac", "pcm24", 2**-23),
        ("a.mp3", "pcm16", 0.01),
        ("a.ogg", "pcm16", 0.05),
        ("a.opus", "pcm16", 0.05),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_written_is_read_back(tmp_path, name, subtype, tolerance, channels):
    samples = tone(channels=channels)
    write_audio(tmp_path / name, samples, 48000, subtype=subtype)
    read, rate = read_audio(tmp_path / name)
    assert rate == 48000
    assert read.shape == samples.shape
    assert np.abs(read - samples)[:, 2000:-2000].max() <= tolerance


@pytest.mark.parametrize("channels", [1, 2])
def test_aac_comes_back_behind_the_silence_that_its_encoder_adds(tmp_path, channels):
    samples, delay = tone(channels=channels), 1024  # raw ADTS has no place to say so
    write_audio(tmp_path / "a.aac", samples, 48000)
    read, rate = read_audio(tmp_path / "a.aac")
    assert rate == 48000
    assert 0 <= read.shape[1] - samples.shape[1] - delay < 1024
    found = read[:, delay : delay + samples.shape[1]]
    assert np.abs(found - samples)[:, 2000:-2000].max() <= 0.05


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.aac"])
def test_bytes_repeat(tmp_path, name):
    write_audio(tmp_path / name, tone(), 48000)
    first = (tmp_path / name).read_bytes()
    write_audio(tmp_path / name, tone(), 48000)
    assert (tmp_path / name).read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 1


def test_values_beyond_full_scale_are_clamped(tmp_path):
    write_audio(tmp_path / "a.wav", 4 * tone(), 48000)
    read, _ = read_audio(tmp_path / "a.wav")
    assert read.min() == -1.0
    assert read.max() == pytest.approx(1.0, abs=1e-4)


def test_rate_and_channels_are_converted(tmp_path):
    write_audio(tmp_path / "a.flac", tone(rate=44100, channels=1), 44100)
    read, rate = read_audio(tmp_path / "a.flac", sample_rate=22050, channels=2)
    assert rate == 22050
    assert read.shape == (2, 44100)
    np.testing.assert_array_equal(read[0], read[1])
    assert read_audio(tmp_path / "a.flac", channels=1)[0].shape == (1, 88200)


def test_surround_folds_by_side():
    names = ("FL", "FR", "FC", "LFE", "BL", "BR")
    only_left = np.zeros((6, 4), np.float32)
    only_left[[0, 4]] = 1
    stereo = mix_to(only_left, 2, names)
    assert stereo[0].min() > 0.5
    assert not stereo[1].any()
    assert mix_to(np.ones((6, 4), np.float32), 2, names).max() <= 1.0001


def test_surround_file_is_read(tmp_path):
    with av.open(str(tmp_path / "a.flac"), "w") as container:
        stream = container.add_stream("flac", rate=48000, layout="5.1")
        data = (tone(0.5, channels=6) * 32767).astype(np.int16).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), "s16", "5.1")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert read_audio(tmp_path / "a.flac")[0].shape == (6, 24000)
    assert read_audio(tmp_path / "a.flac", channels=2)[0].shape == (2, 24000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"these are words, not music\n" * 50, "not audio"),
        (b"", "not audio"),
        (bytes(5000), "not audio"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n", "not audio"),
    ],
)
def test_what_is_not_audio_is_said(tmp_path, content, message):
    path = tmp_path / "song.mp3"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message):
        read_audio(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(PathError, match="does not exist"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(PathError, match="is a folder"):
        read_audio(tmp_path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_a_torn_file_is_refused_with_both_lengths(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4 * 48000)).astype(np.float32)
    write_audio(path, noise, 48000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"of the 4\.0 s .* only [12]\.\d s decode"):
        read_audio(path)
    path.write_bytes(whole[: int(0.97 * len(whole))])
    assert read_audio(path)[0].shape[1] > 0.9 * 4 * 48000


def test_a_wav_of_nan_is_refused(tmp_path):
    write_audio(tmp_path / "a.wav", tone(0.1), 48000, subtype="float")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[-8:-4] = np.float32("nan").tobytes()
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(AudioError, match="not numbers"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("name", "samples", "rate", "error", "message"),
    [
        ("a.xyz", tone(), 48000, RequestError, "written as .wav"),
        ("a.opus", tone(), 44100, RequestError, "not 44100"),
        ("a.wav", tone(channels=3), 48000, RequestError, "1 or 2 channels"),
        ("a.wav", np.zeros((2, 0), np.float32), 48000, AudioError, "no samples"),
        ("a.wav", np.full((2, 9), np.nan, np.float32), 48000, AudioError, "not numbers"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, name, samples, rate, error, message):
    with pytest.raises(error, match=message):
        write_audio(tmp_path / name, samples, rate)
    assert not list(tmp_path.iterdir())


def test_subtype_that_does_not_fit(tmp_path):
    with pytest.raises(RequestError, match="cannot hold float"):
        write_audio(tmp_path / "a.mp3", tone(), 48000, subtype="float")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "opus", "aac"])
def test_a_refused_write_leaves_nothing(tmp_path, suffix):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4 * 48000)).astype(np.float32)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
    try:
        with pytest.raises(StorageError, match="a file-size limit is reached"):
            write_audio(tmp_path / f"a.{suffix}", noise, 48000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_name_is_never_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_audio(tmp_path / "http:a.wav", tone(0.1), 48000)
    assert read_audio(Path("http:a.wav"))[1] == 48000
