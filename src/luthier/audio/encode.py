"""Samples → an audio file by suffix: WAV, FLAC, MP3, AAC, Opus in Ogg; atomic, same bytes each
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from luthier.audio.mp3 import RATES as MP3_RATES
from luthier.audio.mp3 import Mp3Encoder
from luthier.audio.playback import PlaybackCheck
from luthier.audio.tags import id3_tag
from luthier.errors import AudioError, RequestError
from luthier.files import atomic_file

Subtype = Literal["pcm16", "pcm24", "float"]
_LAYOUTS = {1: "mono", 2: "stereo"}
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_BLOCK_S = 2

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Format:
    container: str
    codec: str
    sample_format: str
    rates: tuple[int, ...] | None = None
    most_kbps: int = 0  # a channel; 0 for lossless


_FORMATS = {
    ("wav", "pcm16"): _Format("wav", "pcm_s16le", "s16"),
    ("wav", "pcm24"): _Format("wav", "pcm_s24le", "s32"),
    ("wav", "float"): _Format("wav", "pcm_f32le", "flt"),
    ("flac", "pcm16"): _Format("flac", "flac", "s16"),
    ("flac", "pcm24"): _Format("flac", "flac", "s32"),
    ("mp3", "pcm16"): _Format("mp3", "mp3", "s16", MP3_RATES),
    # The wheels of PyAV bring no good Vorbis encoder: both suffixes hold Opus.
    ("ogg", "pcm16"): _Format("ogg", "libopus", "flt", _OPUS_RATES, most_kbps=256),
    ("opus", "pcm16"): _Format("ogg", "libopus", "flt", _OPUS_RATES, most_kbps=256),
    ("aac", "pcm16"): _Format("adts", "aac", "fltp", _AAC_RATES, most_kbps=160),
}
WRITABLE_SUFFIXES = tuple(dict.fromkeys(f".{name}" for name, _ in _FORMATS))


def write_audio(
    path: Path,
    samples: Floats,
    sample_rate: int,
    *,
    bitrate_kbps: int = 320,
    subtype: Subtype = "pcm16",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write `samples` (channels, n), ±1 at full scale, to `path`; values beyond ±1 are clamped.

    Args:
        path: the suffix chooses the format: .wav .flac .mp3 .ogg .opus .aac.
        samples: one or two channels.
        sample_rate: Hz.
        bitrate_kbps: for the lossy formats, of the whole stream; MP3 takes at most 320, Opus
            256 a channel, AAC 160.
        subtype: pcm16, pcm24 (WAV, FLAC) or float (WAV).
        tags: written into the file; WAV keeps title, comment and encoder only, AAC none.

    Raises:
        RequestError: a format, rate or shape that cannot be written.
        AudioError: nothing to write, values that are not numbers, or the encoder failed.
        StorageError, PathError: the disk refused; nothing is left behind.
    """
    _check(samples)
    block = _BLOCK_S * sample_rate
    blocks = (samples[:, start : start + block] for start in range(0, samples.shape[1], block))
    with blocks_writer(
        path,
        sample_rate,
        samples.shape[0],
        bitrate_kbps=bitrate_kbps,
        subtype=subtype,
        tags=tags,
    ) as writer:
        for part in blocks:
            writer.add(part)


@contextmanager
def blocks_writer(
    path: Path,
    sample_rate: int,
    channels: int = 2,
    *,
    bitrate_kbps: int = 320,
    subtype: Subtype = "pcm16",
    tags: Mapping[str, str] | None = None,
) -> Iterator[AudioWriter]:
    """`write_audio` for sound that comes block by block: the file appears when all went well."""
    check_writable(path, sample_rate, subtype)
    with (
        atomic_file(path) as temporary,
        AudioWriter(
            temporary, sample_rate, channels, bitrate_kbps=bitrate_kbps, subtype=subtype, tags=tags
        ) as writer,
    ):
        yield writer


def check_writable(path: Path, sample_rate: int, subtype: Subtype = "pcm16") -> None:
    """Raise `RequestError` when a file of that name cannot have that rate and kind of samples."""
    _format_of(path, sample_rate, subtype)


def _format_of(path: Path, sample_rate: int, subtype: Subtype) -> _Format:
    name = path.suffix.lower().removeprefix(".")
    kind = _FORMATS.get((name, subtype))
    if kind is None:
        if (name, "pcm16") in _FORMATS:
            raise RequestError(f"{path.name}: .{name} files cannot hold {subtype} samples.")
        raise RequestError(
            f"{path.name}: audio is written as {', '.join(WRITABLE_SUFFIXES)}, "
            f"not as {path.suffix or 'a file without suffix'}."
        )
    if kind.rates and sample_rate not in kind.rates:
        allowed = ", ".join(map(str, kind.rates))
        raise RequestError(f".{name} files have {allowed} Hz, not {sample_rate}.")
    return kind


def _check(samples: Floats) -> None:
    if samples.ndim != 2 or samples.shape[0] not in _LAYOUTS:
        raise RequestError(
            f"audio to write has shape (1 or 2 channels, samples), not {samples.shape}."
        )
    if samples.shape[1] == 0:
        raise AudioError("there are no samples to write.")
    if not np.isfinite(samples).all():
        raise AudioError("the sound to write holds samples that are not numbers (NaN or infinity).")


class _Sink:
    """A file that never fails towards FFmpeg, which handles a full disk badly: the first error is
    kept for us."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                self._stream.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence) if self.error is None else 0

    def tell(self) -> int:
        return self._stream.tell() if self.error is None else 0


class AudioWriter:
    """Writes a file block by block, not atomically: `write_audio` and `atomic_file` are for that.

    Args:
        path, sample_rate, bitrate_kbps, subtype, tags: as for `write_audio`.
        channels: 1 or 2.
        check: decode what was encoded, packet by packet, for `decoded_peak`.

    Raises (also from `add` and at the end of `with`):
        RequestError: a format or rate that cannot be written.
        AudioError: the encoder failed.
        OSError: the disk refused.
    """

    def __init__(
        self,
        path: Path,
        sample_rate: int,
        channels: int,
        *,
        bitrate_kbps: int = 320,
        subtype: Subtype = "pcm16",
        check: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._kind = _format_of(path, sample_rate, subtype)
        self._path, self._rate, self._channels = path, sample_rate, channels
        self._kbps, self._wants_check = bitrate_kbps, check
        self._tags = dict(tags or {})
        self._check: PlaybackCheck | None = None
        self._count = 0
        self._mp3: Mp3Encoder | None = None
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> AudioWriter:
        self._file = self._path.open("wb")
        self._sink = _Sink(self._file)
        if self._kind.codec == "mp3":
            # BinaryIO in all that an encoder uses.
            sink: Any = self._sink
            sink.write(id3_tag(self._tags))
            self._mp3 = Mp3Encoder(sink, self._rate, self._channels, self._kbps)
            if self._wants_check:
                self._check = PlaybackCheck("mp3float")
        else:
            self._open_container()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._container is not None:
                self._container.close()
            self._file.close()
        if kind is None:
            self._raise_disk_error()

    @property
    def decoded_peak(self) -> float:
        """The largest sample that players will get, known after `with`; needs `check`."""
        if self._check is None:
            raise ValueError("the writer was not asked to check what it writes")
        return self._check.peak

    def add(self, samples: Floats) -> None:
        """Encode the next (channels, n) samples, ±1 at full scale; values beyond are clamped."""
        import av

        try:
            if self._mp3 is not None:
                self._checked(self._mp3.add(_integers(samples.T)))
            else:
                frame = self._frame(samples)
                frame.pts = self._count
                self._mux(frame)
        except av.error.FFmpegError as error:
            raise AudioError(f"{self._kind.codec} encoding failed: {error.strerror}.") from error
        self._count += samples.shape[1]
        self._raise_disk_error()

    def _open_container(self) -> None:
        import av

        kind = self._kind
        try:
            self._container = av.open(
                self._sink, "w", format=kind.container, options={"fflags": "+bitexact"}
            )
            self._container.metadata.update(self._tags)
            layout = _LAYOUTS[self._channels]
            self._stream = stream = self._container.add_stream(
                kind.codec, rate=self._rate, layout=layout, format=kind.sample_format
            )
        except av.codec.codec.UnknownCodecError as error:
            raise AudioError(f"this build of PyAV has no encoder named {error}.") from error
        stream.codec_context.options = {"flags": "+bitexact"}
        if kind.most_kbps:
            stream.bit_rate = min(self._kbps, kind.most_kbps * self._channels) * 1000
        elif kind.codec == "flac" and kind.sample_format == "s32":
            stream.codec_context.options |= {"bits_per_raw_sample": "24"}

    def _finish(self) -> None:
        import av

        try:
            if self._mp3 is not None:
                self._checked(self._mp3.finish())
            else:
                self._mux(None)
                self._container.close()
                self._container = None
            if self._check is not None:
                self._check.finish()
        except av.error.FFmpegError as error:
            raise AudioError(f"{self._kind.codec} encoding failed: {error.strerror}.") from error

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            if self._wants_check and packet.size:
                self._check = self._check or PlaybackCheck.of(self._stream.codec_context)
                self._check.add_packet(bytes(packet))
            self._container.mux(packet)

    def _checked(self, data: bytes) -> None:
        if self._check is not None:
            self._check.add_stream(data)

    def _raise_disk_error(self) -> None:
        if self._sink.error is not None:
            raise self._sink.error

    def _frame(self, samples: Floats) -> Any:
        """An FFmpeg frame of `samples` (channels, n) in the format's own sample type."""
        import av

        data: NDArray[Any]
        if self._kind.sample_format == "s16":
            data = _integers(samples.T)
        elif self._kind.sample_format == "s32":
            wide = np.rint(samples.T.astype(np.float64) * 2.0**23)
            data = (np.clip(wide, -(2**23), 2**23 - 1).astype(np.int32)) << 8
        else:
            data = np.clip(samples.T, -1.0, 1.0).astype(np.float32, copy=False)
        is_planar = self._kind.sample_format.endswith("p")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(data.T if is_planar else data.reshape(1, -1)),
            format=self._kind.sample_format,
            layout=_LAYOUTS[samples.shape[0]],
        )
        frame.sample_rate = self._rate
        return frame


def _integers(frames: Floats) -> NDArray[np.int16]:
    """(n, channels) as 16 bits, clamped."""
    scaled = frames * np.float32(2.0**15)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -(2.0**15), 2.0**15 - 1, out=scaled)
    return np.ascontiguousarray(scaled, dtype=np.int16)
