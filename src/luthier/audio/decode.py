"""An audio file → all of its samples: MP3, WAV, FLAC, M4A, OGG, Opus, AIFF and more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luthier.audio.mix import mix_to
from luthier.audio.reader import AudioReader
from luthier.audio.resample import resample

AUDIO_SUFFIXES = (".mp3", ".wav", ".flac", ".m4a", ".ogg", ".opus", ".oga", ".aiff", ".aif")
_BLOCK_S = 10

__all__ = ["AUDIO_SUFFIXES", "mix_to", "read_audio"]


def read_audio(
    path: Path, *, sample_rate: int | None = None, channels: int | None = None
) -> tuple[NDArray[np.float32], int]:
    """Decode a whole audio file into memory; `AudioReader` streams one of any length.

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
    with AudioReader(path) as audio:
        samples = np.concatenate(list(audio.blocks(_BLOCK_S * audio.sample_rate)), axis=1)
    if channels is not None:
        samples = mix_to(samples, channels, audio.channel_names)
    if sample_rate is None:
        return samples, audio.sample_rate
    return resample(samples, audio.sample_rate, sample_rate), sample_rate
