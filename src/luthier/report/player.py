"""One clip → its card on the page: spectrogram, waveform with beats, audio, all inline.

The audio is an MP3 in a data: URI: every browser plays it, also from a page opened as a file.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.audio.encode import write_audio
from luthier.audio.resample import resample
from luthier.files import temporary_folder
from luthier.report.figures import data_uri, spectrogram_png, waveform_svg

_MP3_RATE = 44_100  # one for all clips: an encoder's own habits must not tell them apart
_MP3_KBPS = 128


@dataclass(frozen=True)
class Clip:
    """Audio to listen to.

    Attributes:
        title: what it is, e.g. "Adapter".
        subtitle: one line beneath it: the prompt, the seed, the file.
        audio: samples (channels, n), channels 1 or 2.
        sample_rate: Hz.
        beats_s: where beats were found or asked for, seconds; drawn on the waveform.
        facts: short measured values, e.g. (("tempo", "84.1 bpm"), ("key", "A minor")).
    """

    title: str
    subtitle: str
    audio: NDArray[np.float32]
    sample_rate: int
    beats_s: tuple[float, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ClipGroup:
    """Clips side by side.

    Attributes:
        title: of the group.
        note: how to listen, a line.
        clips: in order.
        alike: they are the same piece (one prompt, one seed): a player can go on where another was.
    """

    title: str
    note: str
    clips: tuple[Clip, ...]
    alike: bool = True


def mp3_bytes(clip: Clip) -> bytes:
    """The clip's audio as MP3."""
    with temporary_folder() as folder:
        path = folder / "clip.mp3"
        samples = resample(clip.audio, clip.sample_rate, _MP3_RATE)
        write_audio(path, samples, _MP3_RATE, bitrate_kbps=_MP3_KBPS)
        return path.read_bytes()


def clip_html(clip: Clip) -> str:
    """The card of one clip."""
    title, subtitle = html.escape(clip.title), html.escape(clip.subtitle)
    duration_s = clip.audio.shape[-1] / clip.sample_rate
    facts = "".join(
        f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in clip.facts
    )
    picture = data_uri(spectrogram_png(clip.audio, clip.sample_rate), "image/png")
    sound = data_uri(mp3_bytes(clip), "audio/mpeg")
    return (
        f'<article class="clip"><div class="view">'
        f'<img src="{picture}" alt="spectrogram of {title}, {duration_s:.1f} seconds">'
        f"{waveform_svg(clip.audio, clip.sample_rate, clip.beats_s)}"
        f'<span class="playhead" aria-hidden="true"></span></div>'
        f"<h4>{title}</h4><p>{subtitle}</p>"
        f'<audio controls preload="metadata" src="{sound}" aria-label="{title}"></audio>'
        f"{f'<dl>{facts}</dl>' if facts else ''}</article>"
    )


def group_html(group: ClipGroup) -> str:
    """The cards of a group under its title."""
    cards = "".join(clip_html(clip) for clip in group.clips)
    note = f"<p>{html.escape(group.note)}</p>" if group.note else ""
    keep = (
        '<label class="keep"><input type="checkbox" checked> keep the moment when switching</label>'
        if group.alike and len(group.clips) > 1
        else ""
    )
    return (
        f'<section class="group"><header><div><h3>{html.escape(group.title)}</h3>{note}</div>{keep}'
        f'</header><div class="clips">{cards}</div></section>'
    )
