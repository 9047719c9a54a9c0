"""A recording that a task names, looked at by the worker before it is kept in memory."""

from __future__ import annotations

from pathlib import Path

from luthier.audio.reader import AudioReader
from luthier.errors import AudioError, PathError

# 1 GiB as 32 bit numbers. A file of some kilobytes can hold hours of silence in 64 channels.
_MOST_SAMPLES = 2**28


def check_recording(path: Path, longest_s: float) -> None:
    """Decode a recording in small pieces, and stop where it is more than a model can hear.

    Raises:
        AudioError: it is too long or too wide, or no audio.
        PathError: it is missing.
    """
    with AudioReader(path) as audio:
        channels, samples = len(audio.channel_names), 0
        for block in audio.blocks(audio.sample_rate):
            samples += block.shape[1]
            if samples > longest_s * audio.sample_rate:
                raise AudioError(
                    f"the recording {path.name} is longer than the {longest_s:g} s that this "
                    "model can hear: cut it first."
                )
            if samples * channels > _MOST_SAMPLES:
                raise AudioError(
                    f"the recording {path.name} has {channels} channels of {audio.sample_rate} Hz, "
                    "too much at its length: stereo at 48000 Hz is enough."
                )


def check_place(path: Path) -> None:
    """Make sure that a path, free of links when its task was accepted, still is.

    Raises:
        PathError: a link lies in it, which may lead out of the registered folders.
    """
    if path.resolve() != path:
        raise PathError(f"{path.name} was replaced by a link after the task was accepted.")
