from __future__ import annotations

import numpy as np
import pytest

from luthier.audio.decode import read_audio
from luthier.audio.encode import AudioWriter, write_audio
from luthier.audio.mp3 import RATES
from luthier.audio.reader import AudioReader
from luthier.audio.tags import id3_size
from luthier.errors import AudioError


def tone(seconds: float, rate: int, channels: int = 2) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return np.array([0.5 * np.sin(2 * np.pi * 440 * (c + 1) * t) for c in range(channels)], "f4")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_blocks_are_the_whole_file_in_equal_parts(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_audio(path, tone(1.0, 48000), 48000)
    with AudioReader(path) as audio:
        blocks = list(audio.blocks(7001))
    assert {block.shape for block in blocks[:-1]} == {(2, 7001)}
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), read_audio(path)[0])


def test_a_chained_file_becomes_one_rate_and_layout(tmp_path):
    write_audio(tmp_path / "a.mp3", tone(1.0, 48000), 48000, bitrate_kbps=128)
    write_audio(tmp_path / "b.mp3", tone(1.0, 32000, channels=1), 32000, bitrate_kbps=128)
    (tmp_path / "c.mp3").write_bytes(_frames(tmp_path / "a.mp3") + _frames(tmp_path / "b.mp3"))
    samples, rate = read_audio(tmp_path / "c.mp3")
    assert samples.shape[1] == pytest.approx(2 * rate, rel=0.08)
    for part in (0.5, 1.5):
        at = round(part * rate)
        assert 0.3 < np.abs(samples[:, at - 2000 : at + 2000]).max() < 0.6


def test_an_mp3_without_a_count_of_its_frames_is_not_called_torn(tmp_path):
    """Quiet frames first at a low bit rate: FFmpeg takes it for a long file."""
    quiet, loud = tmp_path / "quiet.mp3", tmp_path / "loud.mp3"
    write_audio(quiet, tone(1.0, 48000), 48000, bitrate_kbps=32)
    write_audio(loud, tone(4.0, 48000), 48000, bitrate_kbps=320)
    (tmp_path / "a.mp3").write_bytes(_frames(quiet) + _frames(loud))
    samples, _ = read_audio(tmp_path / "a.mp3")
    assert samples.shape[1] / 48000 == pytest.approx(5.0, abs=0.2)


def _frames(path):
    data = path.read_bytes()
    return data[data.index(b"\xff\xfb", 4) :]


def test_a_big_tag_is_stepped_over_and_a_lie_is_not_believed(tmp_path):
    write_audio(tmp_path / "a.mp3", tone(1.0, 48000), 48000)
    music = (tmp_path / "a.mp3").read_bytes()
    big = b"ID3\x04\0\0" + bytes((1, 0, 0, 0)) + bytes(1 << 21)
    (tmp_path / "big.mp3").write_bytes(big + music)
    (tmp_path / "lie.mp3").write_bytes(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + music)
    with (tmp_path / "big.mp3").open("rb") as stream:
        assert id3_size(stream) == len(big)
    with (tmp_path / "lie.mp3").open("rb") as stream:
        assert id3_size(stream) == 0
    expected = read_audio(tmp_path / "a.mp3")[0]
    np.testing.assert_array_equal(read_audio(tmp_path / "big.mp3")[0], expected)


def test_what_a_consumer_raises_is_its_own(tmp_path):
    write_audio(tmp_path / "a.wav", tone(1.0, 8000), 8000)

    def consume():
        with AudioReader(tmp_path / "a.wav") as audio:
            for _ in audio.blocks(1000):
                raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        consume()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("channels", "kbps"), [(1, 32), (2, 320)])
def test_an_mp3_has_its_exact_length(tmp_path, rate, channels, kbps):
    samples = tone(0.5, rate, channels)[:, : rate // 2 - 77]
    write_audio(tmp_path / "a.mp3", samples, rate, bitrate_kbps=kbps)
    read, found = read_audio(tmp_path / "a.mp3")
    assert (read.shape, found) == (samples.shape, rate)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_the_peak_that_players_get_is_known_at_once(tmp_path, suffix):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 48000)).astype("f4")
    with AudioWriter(tmp_path / f"a.{suffix}", 48000, 2, check=True) as writer:
        for start in range(0, 48000, 12000):
            writer.add(noise[:, start : start + 12000])
    read, _ = read_audio(tmp_path / f"a.{suffix}")
    assert writer.decoded_peak == pytest.approx(np.abs(read).max(), rel=0.002)


def test_a_nameless_header_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "a.mp3").write_bytes(b"\xff\xfb\x90\x64" * 3)
    with pytest.raises(AudioError):
        read_audio(tmp_path / "a.mp3")
