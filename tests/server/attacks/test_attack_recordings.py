"""Recordings that are traps for whoever decodes them. The worker meets them, never the API."""

from __future__ import annotations

import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from luthier.audio import bounded as recordings
from luthier.audio.bounded import check_recording
from luthier.audio.encode import write_audio
from luthier.errors import AudioError, LuthierError

LONGEST_S = 30.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that nobody may knock at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def was_called(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return False
    return True


LISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "m3u8 with a map": '#EXTM3U\n#EXT-X-MAP:URI="{target}"\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n',
    "m3u8 with a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:1,\n{target}\n',
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "pls": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
            "<AdaptationSet><Representation><BaseURL>{target}</BaseURL></Representation>"
            "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "edl": "# mpv EDL v0\n{target},0,10\n",
    "a script": "FFMETADATA1\ntitle={target}\n",
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m4a", ".ogg"])
@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_lists_that_name_something_else(
    tmp_path: Path, listener: socket.socket, text: str, suffix: str
) -> None:
    write_audio(tmp_path / "secret.wav", np.zeros((2, 24000), np.float32), 24000)
    port = listener.getsockname()[1]
    for target in (f"http://127.0.0.1:{port}/a.ts", f"{tmp_path}/secret.wav", "secret.wav"):
        path = tmp_path / f"list{suffix}"
        path.write_text(text.replace("{target}", target).replace("{port}", str(port)))
        with pytest.raises(AudioError):
            check_recording(path, LONGEST_S)
    assert not was_called(listener)


def flac(seconds: float, rate: int = 24000, channels: int = 1) -> bytes:
    """Silence in FLAC: kilobytes for minutes."""
    import io

    out = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[channels]
    with av.open(out, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=rate, layout=layout, format="s16")
        size, total = 4608, round(seconds * rate)
        silence = np.zeros((1, size * channels), np.int16)
        for start in range(0, total, size):
            frame = av.AudioFrame.from_ndarray(silence, "s16", layout)
            frame.sample_rate, frame.pts = rate, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return out.getvalue()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_small_file_that_becomes_huge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence costs nothing in FLAC: eight channels within the length, and yet too much."""
    path = tmp_path / "a.flac"
    path.write_bytes(flac(20, 96000, 8))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(recordings, "_MOST_SAMPLES", 2**22)
    before = peak_bytes()
    with pytest.raises(AudioError, match="8 channels of 96000 Hz"):
        check_recording(path, LONGEST_S)
    assert peak_bytes() - before < 100 * 2**20  # all of it would be 61 MB times its copies
    stereo = tmp_path / "b.flac"
    stereo.write_bytes(flac(2))
    check_recording(stereo, LONGEST_S)


def test_the_limit_holds_what_people_send() -> None:
    ten_minutes_of_studio_sound = 600 * 192_000 * 2
    assert ten_minutes_of_studio_sound < recordings._MOST_SAMPLES


def test_a_small_file_that_lasts_for_hours(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(flac(600, 8000))
    assert path.stat().st_size < 150_000
    with pytest.raises(AudioError, match="longer than the 30 s"):
        check_recording(path, LONGEST_S)


def test_a_header_that_claims_hours(tmp_path: Path) -> None:
    data = bytearray(flac(1))
    start = data.index(b"fLaC") + 8
    claimed = int.from_bytes(data[start + 10 : start + 18], "big") | (2**36 - 1)
    data[start + 10 : start + 18] = claimed.to_bytes(8, "big")
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    started = time.monotonic()
    with pytest.raises(AudioError):
        check_recording(path, LONGEST_S)
    assert time.monotonic() - started < 5


def wav(rate: int = 24000, channels: int = 1, size: int = 48000, said: int | None = None) -> bytes:
    said = size if said is None else said
    width = channels * 2 & 0xFFFF
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * width & 0xFFFFFFFF, width, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", said)
    return b"RIFF" + struct.pack("<I", said + 36) + body + bytes(size)


HEADERS = {
    "a rate of 0": wav(rate=0),
    "a rate of 4 GHz": wav(rate=2**32 - 1),
    "no channels": wav(channels=0),
    "65,535 channels": wav(channels=65535),
    "nothing but a head": wav(size=0),
    "a chunk of 4 GB": b"RIFF\xff\xff\xff\xffWAVEJUNK\xff\xff\xff\xff" + bytes(100),
    "a million chunks": b"RIFF\xff\xff\xff\xffWAVE" + b"JUNK\0\0\0\0" * 10**6,
    "a tag of 256 MB": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1000),
    "a picture of 16 MB": b"fLaC\x06\xff\xff\xff" + bytes(1000),
    "boxes in boxes": b"\0\0\0\x14ftypM4A \0\0\0\0M4A " + b"".join(
        struct.pack(">I", 8 * (20_000 - n)) + b"moov" for n in range(20_000)),
    "a box of negative size": b"\0\0\0\x14ftypM4A \0\0\0\0M4A \0\0\0\1moov" + b"\xff" * 8,
    "a page without end": b"OggS\0\2" + bytes(20) + b"\xff" + b"\xff" * 255 + bytes(100),
    "an EBML bomb": b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 7 + b"\x18\x53\x80\x67\x01" + b"\xff" * 7,
    "a zip": b"PK\x03\x04" + bytes(1000),
    "a gzip": b"\x1f\x8b\x08" + bytes(1000),
    "a program": b"\x7fELF" + bytes(1000),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "markup": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS.keys())
def test_headers_that_lie(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    started, before = time.monotonic(), peak_bytes()
    with pytest.raises(LuthierError):
        check_recording(path, LONGEST_S)
    assert time.monotonic() - started < 10
    assert peak_bytes() - before < 300 * 2**20


def test_ten_thousand_streams(tmp_path: Path) -> None:
    """A Matroska file whose head names them all: read in a moment, or refused."""

    def element(name: bytes, content: bytes) -> bytes:
        return name + (len(content) | 1 << 28).to_bytes(4, "big") + content

    kind = element(b"\x42\x82", b"matroska")
    tracks = b"".join(
        element(b"\xae", element(b"\xd7", n.to_bytes(2, "big")) + element(b"\x83", b"\2")
                + element(b"\x86", b"A_PCM/INT/LIT"))
        for n in range(1, 10_001)
    )  # fmt: skip
    data = element(b"\x1a\x45\xdf\xa3", kind)
    data += element(b"\x18\x53\x80\x67", element(b"\x16\x54\xae\x6b", tracks))
    path = tmp_path / "a.mka"
    path.write_bytes(data)
    started = time.monotonic()
    with pytest.raises(AudioError):
        check_recording(path, LONGEST_S)
    assert time.monotonic() - started < 10


def test_a_thousand_pictures_and_a_megabyte_of_words(tmp_path: Path) -> None:
    def block(kind: int, content: bytes) -> bytes:
        return bytes([kind]) + len(content).to_bytes(3, "big") + content

    data = flac(1)
    picture = struct.pack(">III", 3, 9, 0)[:4] + struct.pack(">I", 9) + b"image/png" + bytes(20)
    words = struct.pack("<I", 0) + struct.pack("<I", 20_000) + b"".join(
        struct.pack("<I", 5) + b"A=bcd" for _ in range(20_000)
    )  # fmt: skip
    many = block(6, picture) * 1000 + block(4, words)
    path = tmp_path / "a.flac"
    path.write_bytes(data[:4] + data[4:42] + many + data[42:])
    started = time.monotonic()
    with suppress(AudioError):  # FFmpeg may call the pictures damaged
        check_recording(path, LONGEST_S)
    assert time.monotonic() - started < 10
