"""Samples → an audio file by suffix: WAV, FLAC, MP3, Opus in Ogg; atomic, same bytes each time."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luthier.errors import AudioError, RequestError
from luthier.files import write_bytes

Subtype = Literal["pcm16", "pcm24", "float"]
_LAYOUTS = {1: "mono", 2: "stereo"}
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


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
    ("mp3", "pcm16"): _Format("mp3", "libmp3lame", "fltp", _MP3_RATES, most_kbps=320),
    # The wheels of PyAV bring no good Vorbis encoder: both suffixes hold Opus.
    ("ogg", "pcm16"): _Format("ogg", "libopus", "flt", _OPUS_RATES, most_kbps=256),
    ("opus", "pcm16"): _Format("ogg", "libopus", "flt", _OPUS_RATES, most_kbps=256),
}
WRITABLE_SUFFIXES = tuple(dict.fromkeys(f".{name}" for name, _ in _FORMATS))


def write_audio(
    path: Path,
    samples: NDArray[np.float32],
    sample_rate: int,
    *,
    bitrate_kbps: int = 320,
    subtype: Subtype = "pcm16",
) -> None:
    """Write `samples` (channels, n), ±1 at full scale, to `path`; values beyond ±1 are clamped.

    Args:
        path: the suffix chooses the format: .wav .flac .mp3 .ogg .opus.
        samples: one or two channels.
        sample_rate: Hz.
        bitrate_kbps: for the lossy formats, of the whole stream; MP3 takes at most 320, Opus
            256 a channel.
        subtype: pcm16, pcm24 (WAV, FLAC) or float (WAV).

    Raises:
        RequestError: a format, rate or shape that cannot be written.
        AudioError: nothing to write, values that are not numbers, or the encoder failed.
        StorageError, PathError: the disk refused; nothing is left behind.
    """
    kind = _format_of(path, subtype, sample_rate)
    _check(samples)
    data = np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False)
    # Encoded in memory: FFmpeg handles a disk that fills up badly, write_bytes does not.
    write_bytes(path, _encoded(kind, data, sample_rate, bitrate_kbps))


def _format_of(path: Path, subtype: Subtype, sample_rate: int) -> _Format:
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


def _check(samples: NDArray[np.float32]) -> None:
    if samples.ndim != 2 or samples.shape[0] not in _LAYOUTS:
        raise RequestError(
            f"audio to write has shape (1 or 2 channels, samples), not {samples.shape}."
        )
    if samples.shape[1] == 0:
        raise AudioError("there are no samples to write.")
    if not np.isfinite(samples).all():
        raise AudioError("the sound to write holds samples that are not numbers (NaN or infinity).")


def _encoded(kind: _Format, samples: NDArray[np.float32], rate: int, bitrate_kbps: int) -> bytes:
    import av

    target = io.BytesIO()
    try:
        with av.open(
            target, "w", format=kind.container, options={"fflags": "+bitexact"}
        ) as container:
            stream = container.add_stream(
                kind.codec, rate=rate, layout=_LAYOUTS[samples.shape[0]], format=kind.sample_format
            )
            stream.codec_context.options = {"flags": "+bitexact"}
            if kind.most_kbps:
                channels = 1 if kind.container == "mp3" else samples.shape[0]
                stream.bit_rate = min(bitrate_kbps, kind.most_kbps * channels) * 1000
            elif kind.codec == "flac" and kind.sample_format == "s32":
                stream.codec_context.options |= {"bits_per_raw_sample": "24"}
            for start in range(0, samples.shape[1], rate):
                frame = _frame(samples[:, start : start + rate], kind, rate)
                frame.pts = start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except av.codec.codec.UnknownCodecError as error:
        raise AudioError(f"this build of PyAV has no encoder named {error}.") from error
    except av.error.FFmpegError as error:
        raise AudioError(f"{kind.codec} encoding failed: {error.strerror}.") from error
    return target.getvalue()


def _frame(samples: NDArray[np.float32], kind: _Format, rate: int) -> Any:
    """An FFmpeg frame of `samples` (channels, n) in the format's own sample type."""
    import av

    data: NDArray[Any] = samples
    if kind.sample_format == "s16":
        data = np.clip(np.rint(samples * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)
    elif kind.sample_format == "s32":
        wide = np.rint(samples.astype(np.float64) * 2.0**23)
        data = (np.clip(wide, -(2**23), 2**23 - 1).astype(np.int32)) << 8
    if not kind.sample_format.endswith("p"):
        data = data.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(data), format=kind.sample_format, layout=_LAYOUTS[samples.shape[0]]
    )
    frame.sample_rate = rate
    return frame
