"""An audio file → samples: MP3, WAV, FLAC, M4A, OGG, Opus, AIFF and more, through PyAV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from luthier.audio.resample import resample
from luthier.errors import AudioError, PathError

AUDIO_SUFFIXES = (".mp3", ".wav", ".flac", ".m4a", ".ogg", ".opus", ".oga", ".aiff", ".aif")

# Playlists and the like are formats to FFmpeg, and opening one would open what it names.
_FORMATS = "aac,aiff,asf,caf,flac,matroska,webm,mov,mp4,m4a,mp3,ogg,w64,wav,wv"
# These say their length in the header, so that a shorter decoding means a torn file.
_EXACT_LENGTH = ("aiff", "caf", "flac", "mov", "mp3", "w64", "wav")
_WHOLE = 0.9  # a file that decodes to less than this share of its length is refused
_INTEGER_SCALE = {"uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}


@dataclass
class _Decoded:
    """Blocks (channels, n) as they come, with what the container said about them."""

    blocks: list[NDArray[np.float32]] = field(default_factory=list)
    sample_rate: int = 0
    channel_names: tuple[str, ...] = ()
    declared_s: float | None = None
    exact_length: bool = False
    error: str | None = None

    @property
    def seconds(self) -> float:
        count: int = sum(b.shape[1] for b in self.blocks)
        return count / max(1, self.sample_rate)


def read_audio(
    path: Path, *, sample_rate: int | None = None, channels: int | None = None
) -> tuple[NDArray[np.float32], int]:
    """Decode a whole audio file.

    Args:
        path: the file.
        sample_rate: convert to this rate, Hz; None keeps the file's.
        channels: 1 or 2 mixes to that many; None keeps the file's.

    Returns:
        Samples (channels, n), ±1 at full scale (lossy and float files may exceed it), and their
        rate in Hz.

    Raises:
        AudioError: not audio, no audio stream, nothing decodes, or the file ends too early.
        PathError: missing or unreadable.
    """
    decoded = _decode(path)
    _refuse_torn(path, decoded)
    samples = np.concatenate(decoded.blocks, axis=1)
    decoded.blocks.clear()
    if not np.isfinite(samples).all():
        raise AudioError(f"{path} holds samples that are not numbers (NaN or infinity).")
    if channels is not None:
        samples = mix_to(samples, channels, decoded.channel_names)
    if sample_rate is None:
        return samples, decoded.sample_rate
    return resample(samples, decoded.sample_rate, sample_rate), sample_rate


def mix_to(
    samples: NDArray[np.float32], channels: int, names: Sequence[str] = ()
) -> NDArray[np.float32]:
    """Mix (n_in, n) to 1 or 2 channels: mono is doubled, stereo averaged, surround folded by side.

    `names` are FFmpeg's speaker names (FL, FR, FC, LFE, BL …), used where there are more than two.
    """
    if samples.shape[0] == channels:
        return samples
    if channels == 1:
        mean: NDArray[np.float32] = samples.mean(axis=0, keepdims=True, dtype=np.float32)
        return mean
    if samples.shape[0] == 1:
        return np.repeat(samples, 2, axis=0)
    weights = np.array([_side_weights(n) for n in names or ("",) * samples.shape[0]], np.float32)
    weights /= np.maximum(weights.sum(axis=0, keepdims=True), 1e-9)
    return (weights.T @ samples).astype(np.float32)


def _side_weights(name: str) -> tuple[float, float]:
    """What a speaker gives to (left, right): centre and unknown to both at -3 dB, LFE to none."""
    if name.startswith("LFE"):
        return (0.0, 0.0)
    front = 1.0 if name.startswith("F") else 0.7071
    if name.endswith("L"):
        return (front, 0.0)
    return (0.0, front) if name.endswith("R") else (0.7071, 0.7071)


def _decode(path: Path) -> _Decoded:
    try:
        with path.open("rb") as stream:
            return _decode_file(path, stream)
    except FileNotFoundError:
        raise PathError(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise PathError(f"{path} is a folder, but an audio file is needed.") from None
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror or error}.") from error


def _decode_file(path: Path, stream: BinaryIO) -> _Decoded:
    import av

    if stream.seek(0, os.SEEK_END) == 0:
        raise AudioError(f"{path} is not audio: it is empty.")
    stream.seek(0)
    try:
        # An open file, not its name, keeps FFmpeg's protocols (http:, concat:) out of it.
        with av.open(stream, "r", options={"format_whitelist": _FORMATS}) as container:
            if not container.streams.audio:
                raise AudioError(f"{path} has no audio stream.")
            found = _decode_stream(container)
    except av.error.FFmpegError as error:
        raise AudioError(
            f"{path} is not audio that can be decoded ({error.strerror}). "
            "MP3, WAV, FLAC, M4A, OGG, Opus and AIFF are."
        ) from error
    if found.declared_s is not None:
        found.declared_s *= _missing_tail(stream)
    return found


def _missing_tail(stream: BinaryIO) -> float:
    """How many times longer than it is a WAV or AIFF file says to be; 1 for whole and other files.

    FFmpeg takes the length of a cut WAV from what is left of it.
    """
    stream.seek(0)
    kind, size = stream.read(4), stream.read(4)
    actual = stream.seek(0, os.SEEK_END)
    if kind not in (b"RIFF", b"FORM") or actual == 0:
        return 1.0
    said = int.from_bytes(size, "little" if kind == b"RIFF" else "big") + 8
    # Writers that stream leave 0 or the largest number there.
    return 1.0 if said >= 0xFFFFFFFF else max(1.0, said / actual)


def _decode_stream(container: Any) -> _Decoded:
    import av

    stream = container.streams.audio[0]
    found = _Decoded()
    if stream.duration and stream.time_base:
        found.declared_s = float(stream.duration * stream.time_base)
    elif container.duration:
        found.declared_s = container.duration / av.time_base
    names = container.format.name.split(",")
    found.exact_length = any(n in _EXACT_LENGTH for n in names)
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return found
            for frame in packet.decode():
                _append(found, frame)
        except av.error.EOFError:
            return found
        except av.error.FFmpegError as error:
            # One bad packet is skipped, as players do; _refuse_torn judges by what is left. After
            # an error of the demuxer itself its generator is at its end, and so is the loop.
            found.error = error.strerror


def _append(found: _Decoded, frame: Any) -> None:
    block = frame.to_ndarray()
    count = len(frame.layout.channels)
    if not frame.format.is_planar:
        block = block.reshape(-1, count).T
    scale = _INTEGER_SCALE.get(block.dtype.name)
    samples = block.astype(np.float32)
    if scale is not None:
        samples = (samples - (scale if block.dtype == np.uint8 else 0.0)) / np.float32(scale)
    if not found.blocks:
        found.sample_rate = frame.sample_rate
        found.channel_names = tuple(c.name for c in frame.layout.channels)
    elif count != len(found.channel_names):  # a chained stream may change its layout
        samples = mix_to(mix_to(samples, 1), len(found.channel_names))
    if frame.sample_rate != found.sample_rate:
        samples = resample(samples, frame.sample_rate, found.sample_rate)
    found.blocks.append(samples.astype(np.float32))


def _refuse_torn(path: Path, found: _Decoded) -> None:
    seconds, declared = found.seconds, found.declared_s
    if seconds == 0:
        reason = f": {found.error}" if found.error else ""
        raise AudioError(f"{path} holds no sound that can be decoded{reason}.")
    if declared is None or seconds >= _WHOLE * declared:
        return
    if found.error is not None or found.exact_length:
        raise AudioError(
            f"{path} is damaged or cut off: of the {declared:.1f} s that it declares only "
            f"{seconds:.1f} s decode. Get a whole copy of it."
        )
