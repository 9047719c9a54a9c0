"""An audio file → blocks of samples, one after the other: memory does not grow with its length.

PyAV decodes frames of a millisecond to a tenth of a second into a FIFO inside FFmpeg; Python sees
only blocks of seconds, which is what makes it as fast as FFmpeg itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from luthier.audio.tags import TaglessFile, has_length_header, missing_tail
from luthier.errors import AudioError, PathError

# Playlists and the like are formats to FFmpeg, and opening one would open what it names.
_FORMATS = "aac,aiff,asf,caf,flac,matroska,webm,mov,mp4,m4a,mp3,ogg,w64,wav,wv"
# These say their length in the header, so that a shorter decoding means a torn file.
_EXACT_LENGTH = ("aiff", "caf", "flac", "mov", "mp3", "w64", "wav")
_WHOLE = 0.9  # a file that decodes to less than this share of its length is refused
_INTEGER_SCALE = {"uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
_KNOWN = {kind + layout for kind in ("u8", "s16", "s32", "flt", "dbl") for layout in ("", "p")}
_RATES, _MOST_CHANNELS = (1000, 768000), 64  # beyond, the header is torn rather than unusual
_MOST_PLANES = 8  # from here on PyAV miscounts planes: samples are taken interleaved
_LARGEST = 1e6  # 120 dB above full scale: such a number was never sound

Floats = NDArray[np.float32]


class AudioReader:
    """An open audio file: `with AudioReader(path) as audio: for block in audio.blocks(n): …`.

    Opening decodes the first frame, so that what is said of the sound is what comes out.

    Attributes:
        sample_rate: Hz.
        channel_names: FFmpeg's speaker names (FL, FR, FC, LFE, BL …), one a channel.
        codec: FFmpeg's name, e.g. "mp3float".
        bit_rate: of a lossy stream, bit/s, where the container says it; else None.
        declared_s: the length that the container declares, seconds, or None.

    Raises (from `with` and from the blocks):
        AudioError: not audio, no audio stream, nothing decodes, samples that are not numbers, or
            the file ends too early.
        PathError: missing or unreadable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sample_rate = 0
        self.channel_names: tuple[str, ...] = ()
        self.codec = ""
        self.bit_rate: int | None = None
        self.declared_s: float | None = None
        self._exact_length = False
        self._decoded = 0
        self._decoder_error: str | None = None
        self._file: BinaryIO | None = None
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._first: Any = None

    def __enter__(self) -> AudioReader:
        try:
            with self._errors_in_sentences():
                self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def blocks(self, size: int) -> Iterator[Floats]:
        """Yield the sound as (channels, `size`), ±1 at full scale, the last block shorter.

        Lossy and float files may exceed ±1.
        """
        with self._errors_in_sentences():
            fifo = self._fifo()
            for frame in self._alike_frames():
                fifo.write(frame)
                while fifo.samples >= size:
                    yield self._floats(fifo.read(size))
            if fifo.samples:
                yield self._floats(fifo.read(0))
            self._refuse_torn()

    @contextmanager
    def _errors_in_sentences(self) -> Iterator[None]:
        import av

        path = self.path
        try:
            yield
        except av.error.FFmpegError as error:
            raise AudioError(
                f"{path} is not audio that can be decoded ({error.strerror}). "
                "MP3, WAV, FLAC, M4A, OGG, Opus and AIFF are."
            ) from error
        except FileNotFoundError:
            raise PathError(f"{path} does not exist.") from None
        except IsADirectoryError:
            raise PathError(f"{path} is a folder, but an audio file is needed.") from None
        except OSError as error:
            raise PathError(f"{path} cannot be read: {error.strerror or error}.") from error

    def _open(self) -> None:
        import av

        self._file = stream = self.path.open("rb")
        if stream.seek(0, os.SEEK_END) == 0:
            raise AudioError(f"{self.path} is not audio: it is empty.")
        # An open file, not its name, keeps FFmpeg's protocols (http:, concat:) out of it.
        self._container = av.open(
            TaglessFile(stream),
            "r",
            options={"format_whitelist": _FORMATS},
            metadata_errors="ignore",
        )
        if not self._container.streams.audio:
            raise AudioError(f"{self.path} has no audio stream.")
        self._frames = self._decoded_frames(self._container.streams.audio[0])
        self._first = next(self._frames, None)
        if self._first is None:
            reason = f": {self._decoder_error}" if self._decoder_error else ""
            raise AudioError(f"{self.path} holds no sound that can be decoded{reason}.")
        self._describe(self._container, self._first)

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()
        if self._file is not None:
            self._file.close()
        self._container = self._file = None

    def _describe(self, container: Any, frame: Any) -> None:
        import av

        stream = container.streams.audio[0]
        self.sample_rate = frame.sample_rate
        self.channel_names = tuple(channel.name for channel in frame.layout.channels)
        if not _RATES[0] <= self.sample_rate <= _RATES[1] or len(self.channel_names) > (
            _MOST_CHANNELS
        ):
            raise AudioError(
                f"{self.path} says it has {len(self.channel_names)} channels of "
                f"{self.sample_rate} Hz; up to {_MOST_CHANNELS} of {_RATES[0]} to {_RATES[1]} Hz "
                "can be read."
            )
        self.codec = stream.codec_context.name
        self.bit_rate = stream.codec_context.bit_rate or container.bit_rate or None
        if stream.duration and stream.time_base:
            self.declared_s = float(stream.duration * stream.time_base)
        elif container.duration:
            self.declared_s = container.duration / av.time_base
        names = container.format.name.split(",")
        self._exact_length = any(name in _EXACT_LENGTH for name in names)
        if self._file is None:
            return
        if "mp3" in names and not has_length_header(self._file):
            self._exact_length = False  # a guess from the bit rate of the first frames
        if self.declared_s is not None and self._exact_length:
            self.declared_s *= missing_tail(self._file)

    def _decoded_frames(self, stream: Any) -> Iterator[Any]:
        import av

        packets = stream.container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                # One bad packet is skipped, as players do; _refuse_torn judges by what is left.
                # After an error of the demuxer itself its generator is at its end, and so is this.
                self._decoder_error = error.strerror

    def _fifo(self) -> Any:
        import av

        return av.AudioFifo()

    def _alike_frames(self) -> Iterator[Any]:
        """Every frame in the kind of the first one: a chained stream may change rate and layout."""
        import av

        first = self._first
        kind = first.format.name if first.format.name in _KNOWN else "flt"
        if len(self.channel_names) >= _MOST_PLANES:
            kind = kind.removesuffix("p")
        wanted = (kind, first.layout.name, first.sample_rate)
        converter, converted = None, None
        for frame in _chain(first, self._frames):
            frame.pts = None  # the FIFO insists on times without gaps; files have gaps
            found = (frame.format.name, frame.layout.name, frame.sample_rate)
            if converter is not None and found != converted:
                yield from _untimed(converter.resample(None), first)
                converter = None
            if found == wanted:
                yield frame
                continue
            if converter is None:
                converter, converted = av.AudioResampler(*wanted), found
            yield from _untimed(converter.resample(frame), first)
        if converter is not None:
            yield from _untimed(converter.resample(None), first)

    def _floats(self, frame: Any) -> Floats:
        """A FIFO's frame as (channels, n) float32, refused where it is not finite."""
        block = frame.to_ndarray()
        if not frame.format.is_planar:
            block = np.ascontiguousarray(block.reshape(-1, len(self.channel_names)).T)
        scale = _INTEGER_SCALE.get(block.dtype.name)
        samples: Floats = block.astype(np.float32, copy=False)
        if scale is not None:
            if block.dtype == np.uint8:
                samples -= np.float32(scale)
            samples *= np.float32(1 / scale)
        elif not (float(samples.max()) <= _LARGEST and float(samples.min()) >= -_LARGEST):
            raise AudioError(
                f"{self.path} holds samples that are not numbers (NaN or infinity), or far beyond "
                "full scale."
            )
        self._decoded += samples.shape[1]
        return samples

    def _refuse_torn(self) -> None:
        seconds, declared = self._decoded / self.sample_rate, self.declared_s
        if not self._decoded:
            raise AudioError(f"{self.path} holds no sound that can be decoded.")
        if declared is None or seconds >= _WHOLE * declared:
            return
        if self._decoder_error is not None or self._exact_length:
            raise AudioError(
                f"{self.path} is damaged or cut off: of the {declared:.1f} s that it declares only "
                f"{seconds:.1f} s decode. Get a whole copy of it."
            )


def _untimed(frames: list[Any], first: Any) -> Iterator[Any]:
    """Converted frames as the FIFO takes them beside `first`: no times, its unit of time."""
    for frame in frames:
        frame.pts, frame.time_base = None, first.time_base
        yield frame


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    if first is not None:
        yield first
    yield from rest
