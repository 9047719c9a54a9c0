"""What surrounds the sound in a file: tags to write and to step over, and what the head says of
the length."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping
from typing import BinaryIO

_ID3_HEAD = 10
_BIG_TAG = 1 << 20  # smaller ones are left to FFmpeg, which also finds the format by them
_SCAN = 4096
# FFmpeg reads 32 kB at once, so a sane file stays far below this.
_READS, _BYTES_A_READ = 50_000, 1024
_ID3_FRAMES = {"title": b"TIT2", "encoder": b"TSSE", "comment": b"COMM"}
_UTF8 = b"\x03"


class TaglessFile(io.RawIOBase):
    """A file without the big ID3 tag at its head.

    FFmpeg would read all of it, cover pictures included, into memory, and inflate what says it is
    compressed.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        size = id3_size(stream)
        self._start = size if size > _BIG_TAG else 0
        self._left = _READS + stream.seek(0, os.SEEK_END) // _BYTES_A_READ
        stream.seek(self._start)
        self.name = str(getattr(stream, "name", ""))

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes."""
        self._count()
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to `offset`, counted from behind the tag."""
        self._count()
        if whence == os.SEEK_SET:
            offset += self._start
        return self._stream.seek(offset, whence) - self._start

    def _count(self) -> None:
        """Bound what a head of a million empty parts costs: each is a step through Python."""
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.EFBIG, "it is made of too many small parts")

    def tell(self) -> int:
        """Where the next byte comes from, counted from behind the tag."""
        return self._stream.tell() - self._start


def id3_tag(tags: Mapping[str, str]) -> bytes:
    """Tags as an ID3v2.4 tag, to stand at the head of an MP3 file; nothing for none."""
    frames = b""
    for name, text in tags.items():
        kind, value = _ID3_FRAMES.get(name, b"TXXX"), text.encode()
        if kind == b"TXXX":
            value = name.encode() + b"\0" + value
        elif kind == b"COMM":
            value = b"eng\0" + value
        frames += kind + _syncsafe(len(value) + 1) + bytes(2) + _UTF8 + value
    return b"ID3\x04\0\0" + _syncsafe(len(frames)) + frames if frames else b""


def _syncsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3_size(stream: BinaryIO) -> int:
    """The length of the ID3v2 tag at the head of a file, 0 without one, never beyond the file."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(_ID3_HEAD)
    if len(head) < _ID3_HEAD or not head.startswith(b"ID3") or max(head[6:]) > 0x7F:
        return 0
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte
    size += _ID3_HEAD
    return size if size < end else 0


def has_length_header(stream: BinaryIO) -> bool:
    """Whether an MP3 file counts its frames in a first one (Xing, Info or VBRI).

    Without it FFmpeg guesses the length from the first bit rate and the file's size.
    """
    at = stream.tell()
    stream.seek(id3_size(stream))
    head = stream.read(_SCAN)
    stream.seek(at)
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def missing_tail(stream: BinaryIO) -> float:
    """How many times longer than it is a WAV or AIFF file says to be; 1 for whole and other files.

    FFmpeg takes the length of a cut WAV from what is left of it.
    """
    at = stream.tell()
    stream.seek(0)
    kind, size = stream.read(4), stream.read(4)
    actual = stream.seek(0, os.SEEK_END)
    stream.seek(at)
    if kind not in (b"RIFF", b"FORM") or actual == 0:
        return 1.0
    said = int.from_bytes(size, "little" if kind == b"RIFF" else "big") + 8
    # Writers that stream leave 0 or the largest number there.
    return 1.0 if said >= 0xFFFFFFFF else max(1.0, said / actual)
