"""Encoded packets → the peak of what a player makes of them, while the encoder goes on."""

from __future__ import annotations

from typing import Any

import numpy as np

_DECODERS = {"libopus": "opus"}
_BATCH = 1 << 16  # samples a channel that are looked at together


class PlaybackCheck:
    """Decodes what is encoded and remembers the largest sample.

    Args:
        decoder: FFmpeg's name for it.
        extradata: the head of the stream that the decoder may need.
    """

    def __init__(self, decoder: str, extradata: bytes | None = None) -> None:
        import av

        self._decoder: Any = av.CodecContext.create(decoder, "r")
        if extradata:
            self._decoder.extradata = extradata
        self._fifo: Any = av.AudioFifo()
        self.peak = 0.0

    @classmethod
    def of(cls, encoder: Any) -> PlaybackCheck:
        """The check that fits an open encoder's context."""
        check = cls(_DECODERS.get(encoder.name, encoder.name), encoder.extradata)
        check._decoder.layout = encoder.layout
        check._decoder.sample_rate = encoder.sample_rate
        return check

    def add_stream(self, data: bytes) -> None:
        """Take bytes of an elementary stream, cut anywhere."""
        # No bytes would tell the parser that the stream is at its end.
        for packet in self._decoder.parse(data) if data else ():
            self._decode(packet)

    def add_packet(self, data: bytes) -> None:
        """Take one packet."""
        import av

        self._decode(av.Packet(data))

    def finish(self) -> None:
        """No more packets."""
        for packet in self._decoder.parse(None) if self._decoder.name == "mp3float" else ():
            self._decode(packet)
        self._decode(None)
        if self._fifo.samples:
            self._look(self._fifo.read(0))

    def _decode(self, packet: Any) -> None:
        for frame in self._decoder.decode(packet):
            frame.pts = None
            self._fifo.write(frame)
        while self._fifo.samples >= _BATCH:
            self._look(self._fifo.read(_BATCH))

    def _look(self, frame: Any) -> None:
        samples = frame.to_ndarray()
        largest = max(float(samples.max()), -float(samples.min()))
        if np.issubdtype(samples.dtype, np.integer):
            largest /= -float(np.iinfo(samples.dtype).min)
        self.peak = max(self.peak, largest)
