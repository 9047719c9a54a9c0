"""Hundreds of bad and odd recordings, each a fraction of a second long, the same every time."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from luthier.audio.encode import write_audio

RATE, SECONDS = 24000, 0.5
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
# suffix -> container, codec, sample format of what `write_audio` does not write.
_OTHERS = {"m4a": ("ipod", "aac", "fltp"), "aiff": ("aiff", "pcm_s16be", "s16")}
_DAMAGED = ("wav", "flac", "mp3", "ogg", "m4a", "aiff")


def sound(channels: int = 2, rate: int = RATE, seconds: float = SECONDS) -> NDArray[np.float32]:
    """A decaying chord, another one a channel: (channels, samples)."""
    time_s = np.arange(max(1, round(seconds * rate))) / rate
    tones = [
        sum(np.sin(2 * np.pi * 110 * (channel + h) * time_s) / h for h in (2, 3, 5))
        for channel in range(channels)
    ]
    return (0.3 * np.array(tones) * np.exp(-3 * time_s)).astype(np.float32)


def write_other(
    path: Path,
    samples: NDArray[np.float32],
    rate: int,
    kind: tuple[str, str, str],
) -> None:
    """Write through PyAV: (container, codec, sample format)."""
    container, codec, sample_format = kind
    scale = {"u8": 127.0, "s16": 32767.0, "s32": 2147483000.0}.get(sample_format.rstrip("p"))
    data = samples if scale is None else np.rint(samples * scale)
    types = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "dbl": np.float64}
    data = (data + (128 if sample_format == "u8" else 0)).astype(
        types.get(sample_format, np.float32)
    )
    layout = _LAYOUTS[len(samples)]
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout, format=sample_format)
        size = stream.codec_context.frame_size or 1024
        for start in range(0, data.shape[1], size):
            block = data[:, start : start + size]
            if not sample_format.endswith("p"):
                block = block.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block), format=sample_format, layout=layout
            )
            frame.sample_rate, frame.pts = rate, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def whole_files(folder: Path) -> dict[str, bytes]:
    """One good file a format, by suffix."""
    for suffix in _DAMAGED:
        path = folder / f"good.{suffix}"
        if suffix in _OTHERS:
            write_other(path, sound(), RATE, _OTHERS[suffix])
        else:
            write_audio(path, sound(), RATE, bitrate_kbps=64)
    return {suffix: (folder / f"good.{suffix}").read_bytes() for suffix in _DAMAGED}


def write_corpus(folder: Path, *, seed: int = 0) -> int:
    """Fill `folder`; return how many files there are."""
    folder.mkdir(parents=True)
    good = whole_files(folder)
    rng = random.Random(seed)
    for suffix, data in good.items():
        for i in range(22):
            (folder / f"cut{i}.{suffix}").write_bytes(data[: rng.randrange(1, len(data))])
        for i in range(22):
            (folder / f"flips{i}.{suffix}").write_bytes(_flipped(data, rng, 1 + i * i))
        for i in range(4):
            (folder / f"hole{i}.{suffix}").write_bytes(_with_hole(data, rng))
        (folder / f"empty.{suffix}").touch()
        (folder / f"noise.{suffix}").write_bytes(rng.randbytes(4000))
        (folder / f"zeros.{suffix}").write_bytes(bytes(4000))
        (folder / f"tail.{suffix}").write_bytes(data + rng.randbytes(999))
    _wrong_names(folder, good)
    _odd_pcm(folder)
    _odd_headers(folder, good)
    _odd_tags(folder, good)
    return len(list(folder.iterdir()))


def _flipped(data: bytes, rng: random.Random, count: int) -> bytes:
    found = bytearray(data)
    for _ in range(count):
        # Headers are where a flip hurts most.
        end = 200 if rng.random() < 0.3 else len(found)
        found[rng.randrange(min(end, len(found)))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _with_hole(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + bytes(rng.randrange(2000)) + data[start + rng.randrange(2000) :]


def _wrong_names(folder: Path, good: dict[str, bytes]) -> None:
    suffixes = list(good)
    for suffix, other in zip(suffixes, suffixes[1:] + suffixes[:1], strict=True):
        (folder / f"really_{suffix}.{other}").write_bytes(good[suffix])
    for name, data in {
        "page.mp3": b"<!doctype html><html>Not found</html>",
        "list.m4a": b"#EXTM3U\nhttp://127.0.0.1:9/x.mp3\nfile:///etc/passwd\n",
        "concat.wav": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "zip.flac": b"PK\x03\x04" + bytes(99),
        "nul.ogg": b"\0",
        "text.aiff": "ünïcödé\n".encode() * 99,
    }.items():
        (folder / name).write_bytes(data)


def _odd_pcm(folder: Path) -> None:
    rates = {"8bit8k": ("u8", "pcm_u8", 8000), "24bit": ("s32", "pcm_s24le", RATE)}
    rates |= {"32bit": ("s32", "pcm_s32le", RATE), "double": ("dbl", "pcm_f64le", RATE)}
    rates |= {"192k": ("s16", "pcm_s16le", 192000), "1k": ("s16", "pcm_s16le", 1000)}
    for name, (sample_format, codec, rate) in rates.items():
        write_other(folder / f"{name}.wav", sound(rate=rate), rate, ("wav", codec, sample_format))
    for channels in (1, 6, 8):
        samples = sound(channels)
        write_other(folder / f"ch{channels}.wav", samples, RATE, ("wav", "pcm_s16le", "s16"))
        write_other(folder / f"ch{channels}.flac", samples, RATE, ("flac", "flac", "s16"))
    write_audio(folder / "one_sample.wav", sound(seconds=0), RATE)
    write_audio(folder / "one_sample.flac", sound(seconds=0), RATE)
    write_audio(folder / "loud.wav", 50 * sound(), RATE, subtype="float")
    write_audio(folder / "zero.wav", 0 * sound(), RATE)
    write_audio(folder / "faint.wav", sound() * np.float32(1e-30), RATE, subtype="float")
    for name, value in {"nan": np.nan, "inf": np.inf, "huge": 1e38, "tiny": 1e-42}.items():
        samples = sound()
        samples[:, 1000:1100] = value
        _float_wav(folder / f"{name}.wav", samples)


def _float_wav(path: Path, samples: NDArray[np.float32]) -> None:
    data = samples.T.astype("<f4").tobytes()
    channels = len(samples)
    form = struct.pack("<HHIIHH", 3, channels, RATE, RATE * channels * 4, channels * 4, 32)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)


def _odd_headers(folder: Path, good: dict[str, bytes]) -> None:
    """WAV headers that lie."""
    wav = good["wav"]
    at = wav.index(b"fmt ") + 8
    for name, offset, value in (
        ("no_channels", at + 2, struct.pack("<H", 0)),
        ("many_channels", at + 2, struct.pack("<H", 65535)),
        ("no_rate", at + 4, struct.pack("<I", 0)),
        ("high_rate", at + 4, struct.pack("<I", 0xFFFFFFFF)),
        ("one_hz", at + 4, struct.pack("<I", 1)),
        ("no_bits", at + 14, struct.pack("<H", 0)),
        ("unknown_codec", at, struct.pack("<H", 0x7777)),
        ("long_data", wav.index(b"data") + 4, struct.pack("<I", 0x7FFFFFFF)),
        ("no_data", wav.index(b"data") + 4, struct.pack("<I", 0)),
        ("riff_size", 4, struct.pack("<I", 0xFFFFFFFF)),
    ):
        (folder / f"{name}.wav").write_bytes(wav[:offset] + value + wav[offset + len(value) :])


def _odd_tags(folder: Path, good: dict[str, bytes]) -> None:
    """ID3 tags before an MP3: cover art, lies about sizes, text with NULs, a compressed bomb."""
    mp3 = good["mp3"]
    start = 10 + _size_of(mp3[6:10]) if mp3[:3] == b"ID3" else 0
    bare = mp3[start:]
    bomb = zlib.compress(bytes(50 << 20), 9)
    art = b"\0image/png\0\x03\0\x89PNG\r\n\x1a\n" + bytes(3000)
    tags = {
        "bare": b"",
        "cover": _tag(_frame(b"APIC", art)),
        "many_covers": _tag(b"".join(_frame(b"APIC", art) for _ in range(200))),
        "nuls": _tag(_frame(b"TIT2", b"\x03a\0b\0\0c")),
        "long_title": _tag(_frame(b"TIT2", b"\x03" + b"x" * 300_000)),
        "bomb": _tag(_frame(b"TIT2", _syncsafe(50 << 20) + bomb, flags=b"\0\x09")),
        "bomb_art": _tag(_frame(b"APIC", _syncsafe((1 << 28) - 1) + bomb, flags=b"\0\x09")),
        "size_lie": b"ID3\x04\0\0" + _syncsafe((1 << 28) - 1),
        "frame_lie": _tag(b"TIT2" + _syncsafe((1 << 28) - 1) + b"\0\0abc"),
        "nested": _tag(b"") * 2000,
        "junk": b"\xff" * 5000,
    }
    for name, tag in tags.items():
        (folder / f"id3_{name}.mp3").write_bytes(tag + bare)
    (folder / "id3.flac").write_bytes(tags["cover"] + good["flac"])
    (folder / "id3_only.mp3").write_bytes(tags["cover"])


def _syncsafe(value: int) -> bytes:
    return bytes((value >> shift) & 0x7F for shift in (21, 14, 7, 0))


def _size_of(data: bytes) -> int:
    return sum((byte & 0x7F) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))


def _frame(name: bytes, body: bytes, flags: bytes = b"\0\0") -> bytes:
    return name + _syncsafe(len(body)) + flags + body


def _tag(frames: bytes) -> bytes:
    return b"ID3\x04\0\0" + _syncsafe(len(frames)) + frames
