"""Samples → MP3 by LAME, with the Info frame that tells players the exact length.

LAME comes as `lameenc`: the one inside PyAV's wheels is compiled without optimisation and takes
three times as long for the same bytes.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_QUALITY = 3  # LAME's own default, and FFmpeg's
_DELAY = 576  # samples of silence that LAME puts first
_V1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_V2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_TAG_BYTES = 156  # what LAME's Info tag takes behind the side information


class Mp3Encoder:
    """Writes constant bit rate MP3 to an open file that can seek.

    Args:
        target: gets the bytes.
        sample_rate: one of `RATES`.
        channels: 1 or 2.
        bitrate_kbps: the nearest that MP3 knows at the rate is taken.
    """

    def __init__(
        self, target: BinaryIO, sample_rate: int, channels: int, bitrate_kbps: int
    ) -> None:
        import lameenc

        encoder: Any = lameenc.Encoder()
        encoder.silence()
        encoder.set_bit_rate(bitrate_kbps)
        encoder.set_in_sample_rate(sample_rate)
        encoder.set_out_sample_rate(sample_rate)
        encoder.set_channels(channels)
        encoder.set_quality(_QUALITY)
        self._encoder = encoder
        self._target, self._start = target, target.tell()  # behind what tags there are
        self._channels, self._rate = channels, sample_rate
        self._head = b""
        self._samples = self._bytes = 0

    def add(self, frames: NDArray[np.int16]) -> bytes:
        """Encode (n, channels) samples; return what was written, for whoever checks it."""
        self._samples += len(frames)
        return self._write(bytes(self._encoder.encode(frames.tobytes())))

    def finish(self) -> bytes:
        """Write what LAME still holds, then the Info frame; return the former."""
        last = self._write(bytes(self._encoder.flush()))
        self._target.seek(self._start)
        self._target.write(self._info_frame())
        return last

    def _write(self, data: bytes) -> bytes:
        if data and not self._head:
            self._head = data[:4]
            self._target.write(bytes(len(self._info_frame())))
        self._target.write(data)
        self._bytes += len(data)
        return data

    def _info_frame(self) -> bytes:
        """A frame of silence that holds the counts, as LAME writes it."""
        is_v1, is_mono = self._rate >= 32000, self._channels == 1
        side = (17 if is_mono else 32) if is_v1 else (9 if is_mono else 17)
        head, size = _header_with_room(self._head, self._rate, 4 + side + _TAG_BYTES)
        per_frame = 1152 if is_v1 else 576
        padding = per_frame - (_DELAY + self._samples) % per_frame
        padding += per_frame if padding < _DELAY else 0
        count = (_DELAY + self._samples + padding) // per_frame
        total = size + self._bytes
        tag = b"Info" + bytes((0, 0, 0, 15)) + count.to_bytes(4, "big") + total.to_bytes(4, "big")
        tag += bytes(i * 256 // 100 for i in range(100)) + (0).to_bytes(4, "big")
        lame = b"LAME3.100" + bytes((1, 0)) + bytes(8) + bytes((0, 0))
        lame += (_DELAY << 12 | min(padding, 4095)).to_bytes(3, "big") + bytes(4)
        # The length of the music; its checksum is left out, as players do not look at it.
        lame += total.to_bytes(4, "big") + bytes(2)
        frame = head + bytes(side) + tag + lame
        frame += _crc16(frame).to_bytes(2, "big")
        return frame + bytes(size - len(frame))


def _header_with_room(head: bytes, rate: int, need: int) -> tuple[bytes, int]:
    """A frame header like `head` at the lowest bit rate whose frames have `need` bytes, and their
    size."""
    is_v1 = rate >= 32000
    for index, kbps in enumerate(_V1_KBPS if is_v1 else _V2_KBPS):
        size = (144 if is_v1 else 72) * kbps * 1000 // rate
        if size >= need:
            # Without padding bit and, bit 0 of the second byte set, without a checksum.
            return bytes((head[0], head[1] | 1, index << 4 | head[2] & 0x0C, head[3])), size
    raise AssertionError(f"no MP3 frame at {rate} Hz has {need} bytes")


def _crc16(data: bytes) -> int:
    """CRC-16/ARC, as LAME's tag has it."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
