from __future__ import annotations

import json
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from band import play
from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.audio.fingerprint import similarity
from luthier.audio.levels import decibels
from luthier.audio.measure import peak
from luthier.dataset import curate_file as module
from luthier.dataset.curate_file import CurateJob, CurateResult, CurateSettings, curate_file
from luthier.errors import StorageError

SHORT = CurateSettings(
    min_duration=0.4, max_duration=1.5, tempo_and_key=False, target_format="wav", sample_rate=16000
)
REASONS = ("unreadable: ", "silent: ", "excessive_clipping: ", "excessive_silence: ", "too_short: ")


def curated(source: Path, settings: CurateSettings, name: str = "out") -> CurateResult:
    output = source.parent / "out" / f"{name}.{settings.target_format}"
    return curate_file(CurateJob(source, output, settings))


@pytest.mark.parametrize("target_format", ["mp3", "flac", "wav", "ogg"])
@pytest.mark.parametrize(("source", "rate"), [("a.wav", 44100), ("a.mp3", 48000), ("a.flac", 8000)])
def test_the_decoded_output_has_the_peak(tmp_path, target_format, source, rate):
    samples = play(100, "G major", 3.0, rate=rate)
    write_audio(tmp_path / source, samples, rate)
    for level in (-1.0, -6.0):
        settings = CurateSettings(
            target_format=target_format, min_duration=1, normalize_peak=level, tempo_and_key=False
        )
        row = curated(tmp_path / source, settings)
        assert row.status == "success"
        read, out_rate = read_audio(Path(row.output_path))
        assert (read.shape[0], out_rate) == (2, 48000)
        assert read.shape[1] / out_rate == pytest.approx(row.duration, abs=0.001)
        assert row.duration == pytest.approx(3.0, abs=0.03)
        assert level - 0.35 <= decibels(peak(read)) <= level + 0.02
        assert row.output_peak_db == pytest.approx(decibels(peak(read)), abs=0.05)


def test_loud_music_needs_no_second_encoding(tmp_path, monkeypatch):
    """Square waves are what codecs raise most: the loudest moments tell by how much."""
    t = np.arange(4 * 44100) / 44100
    square = np.sign(np.sin(2 * np.pi * 220 * t)) * (1 + 0.2 * np.sin(3 * t)) / 2
    write_audio(tmp_path / "a.wav", np.tile(square, (2, 1)).astype(np.float32), 44100)
    passes = []
    encode = module.write_at_peak

    def counted(*args):
        result = encode(*args)
        passes.append(result.passes)
        return result

    monkeypatch.setattr(module, "write_at_peak", counted)
    row = curated(tmp_path / "a.wav", CurateSettings(min_duration=1, tempo_and_key=False))
    assert row.output_peak_db <= -0.97
    assert passes[0] <= 2


@pytest.mark.parametrize("kept", [True, False])
def test_what_does_not_fit_in_memory_is_decoded_again(tmp_path, monkeypatch, kept):
    write_audio(tmp_path / "a.flac", play(100, "G major", 6.0, rate=44100), 44100)
    settings = CurateSettings(min_duration=1, max_duration=4, target_format="flac")
    expected = curated(tmp_path / "a.flac", settings, "expected")
    monkeypatch.setattr(module, "_KEPT_BYTES", 1 << 30 if kept else 1000)
    row = curated(tmp_path / "a.flac", settings, "found")
    assert row.output_sha256 == expected.output_sha256
    assert row.duration == 4.0
    assert row.notes[-1] == "cut from 6.0 s to 4 s"
    samples, _ = read_audio(Path(row.output_path))
    assert samples.shape == (2, 4 * 48000)
    assert np.abs(samples[:, -20:]).max() < 0.01


def test_a_result_is_complete(tmp_path):
    write_audio(tmp_path / "a.wav", play(120, "D minor", 8.0, rate=22050), 22050)
    row = curated(tmp_path / "a.wav", CurateSettings(min_duration=1))
    assert (row.key, row.metre) == ("D minor", 4)
    assert row.bpm == pytest.approx(120, rel=0.01)
    assert np.diff(row.beats) == pytest.approx(0.5, abs=0.05)
    assert len(row.envelope) <= 400
    assert max(high for _, high in row.envelope) <= 10 ** (-1 / 20) + 0.001
    assert min(low for low, _ in row.envelope) < -0.3
    assert row.measures.image == "dual mono"
    assert "dual mono" in row.notes[-1]
    write_audio(tmp_path / "b.mp3", 0.3 * play(120, "D minor", 8.0, rate=44100), 44100)
    again = curated(tmp_path / "b.mp3", CurateSettings(min_duration=1))
    assert similarity(row.fingerprint, again.fingerprint) > 0.5


def test_an_output_folder_that_refuses_is_raised(tmp_path):
    write_audio(tmp_path / "a.wav", play(120, "D minor", 2.0, rate=22050), 22050)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
    try:
        with pytest.raises(StorageError, match="a file-size limit is reached"):
            curated(tmp_path / "a.wav", SHORT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out").iterdir())


def _wav(data: bytes, kind: int, rate: int, channels: int, bits: int) -> bytes:
    width = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, (rate * width) % 2**32, width % 2**16, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _encoded(codec: str, container: str, path: Path, layout: str = "stereo") -> bytes:
    """A second of chords in a format that luthier does not write itself."""
    samples = play(100, "C major", 1.0, rate=44100)
    channels = {"stereo": 2, "mono": 1, "5.1": 6, "7.1": 8}[layout]
    data = np.ascontiguousarray(np.resize(samples, (channels, samples.shape[1])).T).reshape(1, -1)
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=44100, layout=layout)
        wanted = stream.codec_context.format.name
        frame = av.AudioFrame.from_ndarray(data, "flt", layout)
        frame.sample_rate = 44100
        size = stream.codec_context.frame_size or 0
        for part in av.AudioResampler(wanted, layout, 44100, size).resample(frame):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return path.read_bytes()


def _sources(folder: Path) -> dict[str, bytes]:
    """One good file of every kind, by its name."""
    samples = play(100, "C major", 1.0, rate=44100)
    found = {}
    for suffix in ("wav", "mp3", "flac", "ogg"):
        rate = 48000 if suffix == "ogg" else 44100
        write_audio(folder / f"good.{suffix}", samples, rate, bitrate_kbps=128)
        found[f"good.{suffix}"] = (folder / f"good.{suffix}").read_bytes()
    for name, codec, container in (
        ("good.m4a", "aac", "mp4"),
        ("good.aiff", "pcm_s16be", "aiff"),
        ("adts.aac.mp3", "aac", "adts"),
        ("alac.m4a", "alac", "mp4"),
    ):
        found[name] = _encoded(codec, container, folder / name)
    for layout in ("mono", "5.1", "7.1"):
        found[f"{layout}.flac"] = _encoded("flac", "flac", folder / "layout.flac", layout)
    return found


def _odd_wavs() -> Iterator[tuple[str, bytes]]:
    tone = 0.4 * np.sin(2 * np.pi * 330 * np.arange(8000) / 8000)
    yield "u8-8k.wav", _wav((tone * 127 + 128).astype("u1").tobytes(), 1, 8000, 1, 8)
    for bits, scale, kind in ((16, 2**15, "<i2"), (32, 2**31, "<i4")):
        data = (tone * (scale - 1)).astype(kind).tobytes()
        for channels in (1, 2, 6, 8):
            yield f"int{bits}-{channels}ch.wav", _wav(data, 1, 8000, channels, bits)
    packed = np.frombuffer((tone * 2**23).astype("<i4").tobytes(), "u1").reshape(-1, 4)[:, :3]
    yield "int24.wav", _wav(packed.tobytes(), 1, 8000, 1, 24)
    for kind in ("<f4", "<f8"):
        bits = 8 * np.dtype(kind).itemsize
        yield f"float{bits}.wav", _wav(tone.astype(kind).tobytes(), 3, 8000, 1, bits)
        for name, value in (("nan", np.nan), ("inf", np.inf), ("huge", 1e30), ("tiny", 1e-30)):
            bad = tone.copy()
            bad[4000] = value
            yield f"{name}{bits}.wav", _wav(bad.astype(kind).tobytes(), 3, 8000, 1, bits)
        yield f"all-nan{bits}.wav", _wav(np.full(8000, np.nan, kind).tobytes(), 3, 8000, 1, bits)
    long = np.tile(tone, 24)
    yield "192k.wav", _wav((long * 32767).astype("<i2").tobytes(), 1, 192000, 1, 16)
    for count in (0, 1, 2, 11, 31, 33, 1000):
        data = (tone[:count] * 32767).astype("<i2").tobytes()
        yield f"{count}-samples.wav", _wav(data, 1, 8000, 1, 16)
    for rate in (0, 1, 999, 1000, 3000, 768001, 2**32 - 1):
        yield f"rate-{rate}.wav", _wav((tone * 32767).astype("<i2").tobytes(), 1, rate, 1, 16)
    for channels in (0, 3, 64, 65, 255, 65535):
        data = (tone * 32767).astype("<i2").tobytes()
        yield f"channels-{channels}.wav", _wav(data, 1, 8000, channels, 16)
    for level in (0.0, 1e-7, 1e-4, 1.0):
        data = np.full(8000, level, "<f4").tobytes()
        yield f"constant-{level}.wav", _wav(data, 3, 8000, 1, 32)


def _tagged(music: bytes) -> Iterator[tuple[str, bytes]]:
    def syncsafe(size: int) -> bytes:
        return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))

    def tag(frames: bytes, size: int | None = None) -> bytes:
        return b"ID3\x04\0\0" + syncsafe(len(frames) if size is None else size) + frames

    picture = b"\0image/png\0\x03\0" + b"\x89PNG\r\n\x1a\n" + bytes(3_000_000)
    yield "cover.mp3", tag(b"APIC" + syncsafe(len(picture)) + b"\0\0" + picture) + music
    small = b"\0image/png\0\x03\0" + b"\x89PNG\r\n\x1a\n" + bytes(2000)
    yield "small-cover.mp3", tag(b"APIC" + syncsafe(len(small)) + b"\0\0" + small) + music
    yield "padding.mp3", tag(bytes(2_000_000)) + music
    yield "claims-more.mp3", tag(b"", 2**28 - 1) + music
    yield "many-frames.mp3", tag((b"TXXX" + syncsafe(5) + b"\0\0\0a\0b\0") * 5000) + music
    bomb = b"TIT2" + syncsafe(20) + b"\0\x09" + syncsafe(2**28 - 1) + bytes(20)
    yield "inflates.mp3", tag(bomb) + music
    yield "ten-tags.mp3", tag(b"TIT2" + syncsafe(3) + b"\0\0\0ab") * 10 + music
    yield "nul.mp3", bytes(5000) + music
    yield "nul-inside.mp3", music[:4000] + bytes(3000) + music[4000:]
    yield "id3v1.mp3", music + b"TAG" + b"\xff" * 125


def corpus(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Bad and odd files, by their names."""
    rng = np.random.default_rng(7)
    good = _sources(folder)
    yield from good.items()
    yield from _odd_wavs()
    yield from _tagged(good["good.mp3"])
    for name, data in good.items():
        for i, share in enumerate([*rng.uniform(0, 1, 9), 0.999]):
            yield f"cut{i}-{name}", data[: int(share * len(data))]
        for i, count in enumerate((1, 3, 10, 30, 100, 300, 1000)):
            flipped = bytearray(data)
            for at in rng.integers(0, len(data), count):
                flipped[at] ^= 1 << int(rng.integers(8))
            yield f"flip{i}-{name}", bytes(flipped)
        head = bytearray(data)
        head[:60] = rng.bytes(60)
        yield f"head-{name}", bytes(head)
        hole = bytearray(data)
        hole[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
        yield f"hole-{name}", bytes(hole)
        for other in ("wav", "mp3", "m4a"):
            yield f"is-{name.replace('.', '-')}.{other}", data
    for i in range(8):
        yield f"random{i}.{('mp3', 'wav', 'flac', 'ogg')[i % 4]}", rng.bytes(20000)
    for i, size in enumerate((0, 1, 3, 4, 12, 44)):
        yield f"tiny{i}.wav", (b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0" + bytes(60))[:size]
    yield "doubled.ogg", good["good.ogg"] * 2
    yield "mixed.mp3", good["good.mp3"] + good["good.wav"] + good["good.mp3"]


def _hung(signum, frame):
    raise AssertionError("a file took more than 60 s")


def test_every_bad_or_odd_file_ends_with_a_reason(tmp_path):
    count = {"success": 0, "skipped": 0, "failed": 0}
    out = tmp_path / "out"
    before = signal.signal(signal.SIGALRM, _hung)
    try:
        for name, data in corpus(tmp_path):
            path = tmp_path / name
            path.write_bytes(data)
            signal.alarm(60)
            row = curated(path, SHORT)
            signal.alarm(0)
            count[row.status] += 1
            written = [p.name for p in out.iterdir()] if out.exists() else []
            if row.status == "success":
                assert written == ["out.wav"], name
                samples, rate = read_audio(out / "out.wav")
                assert (samples.shape[0], rate) == (2, 16000), name
                assert decibels(peak(samples)) == pytest.approx(-1, abs=0.01), name
                (out / "out.wav").unlink()
            else:
                assert row.reason.startswith(REASONS), (name, row.reason)
                assert row.reason.endswith("."), (name, row.reason)
                assert not written, name
            path.unlink()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert sum(count.values()) >= 300
    assert min(count.values()) >= 10, count


GOOD = ("int24.wav", "192k.wav", "float64.wav", "int16-6ch.wav", "u8-8k.wav", "7.1.flac")
GOOD += ("cover.mp3", "padding.mp3", "small-cover.mp3", "many-frames.mp3", "id3v1.mp3", "alac.m4a")
BAD = ("nan32.wav", "inf64.wav", "huge32.wav", "constant-0.0.wav", "tiny0.wav", "rate-1.wav")


def test_what_is_only_odd_is_processed_and_what_is_bad_is_not(tmp_path):
    wanted = {name: "success" for name in GOOD} | {name: "failed" for name in BAD}
    found = {}
    for name, data in corpus(tmp_path):
        if name in wanted:
            (tmp_path / name).write_bytes(data)
            found[name] = curated(tmp_path / name, SHORT.model_copy(update={"min_duration": 0.1}))
    assert {name: row.status for name, row in found.items()} == wanted
    assert "not numbers" in found["nan32.wav"].reason
    assert "upsampled" not in " ".join(found["u8-8k.wav"].notes)


_PEAK_MEMORY = """
import json, re, sys
from pathlib import Path
from luthier.dataset.curate_file import CurateJob, CurateSettings, curate_file
row = curate_file(CurateJob(Path(sys.argv[1]), Path(sys.argv[2]), CurateSettings()))
# Not ru_maxrss: that begins with what the parent had when it forked.
kilobytes = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps([row.status, row.notes, kilobytes * 1024 / 1e6]))
"""


def _peak_memory(source: Path) -> tuple[str, list[str], float]:
    command = [sys.executable, "-c", _PEAK_MEMORY, str(source), str(source.parent / "out.mp3")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    status, notes, megabytes = json.loads(done.stdout)
    return status, notes, megabytes


def _repeated_mp3(path: Path, hours: float) -> Path:
    write_audio(path, play(100, "C major", 10.0, rate=44100), 44100, bitrate_kbps=128)
    music = path.read_bytes()
    frames = music[music.index(b"\xff\xfb", 10) :]
    with path.open("wb") as stream:
        for _ in range(round(hours * 360)):
            stream.write(frames)
    return path


@pytest.mark.slow
def test_three_hours_cost_little_memory(tmp_path):
    status, notes, megabytes = _peak_memory(_repeated_mp3(tmp_path / "a.mp3", 3.0))
    assert (status, notes[-1][:12]) == ("success", "cut from 108")
    assert megabytes <= 250


def test_memory_is_bounded(tmp_path):
    """Twenty minutes; as samples they are 420 MB."""
    path = _repeated_mp3(tmp_path / "a.mp3", 1 / 3)
    status, _, megabytes = _peak_memory(path)
    assert status == "success"
    assert megabytes <= 250
