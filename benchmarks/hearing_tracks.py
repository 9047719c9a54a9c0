"""The music that `hearing.py` listens to: composed and rendered here, so that its tempo, key, metre
and beats are known exactly.

Nine styles in turn (every second piece in three-four where a style has it), every style in eleven
or twelve different keys, the tempo as the composer draws it. A piece begins with its first
downbeat. And pieces over chord loops that the composer does not know, some of them truly ambiguous.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from unittest.mock import patch

import numpy as np

from luthier.audio.encode import write_audio
from luthier.audio.keynames import ALL_KEYS
from luthier.files import write_json
from luthier.progress import Display

sys.path.insert(0, str(Path(__file__).parents[1]))

from recipes.mini.compose import Score, compose
from recipes.mini.lofi import age
from recipes.mini.render import Synth, mix
from recipes.mini.styles import LOFI, STYLES
from recipes.mini.theory import PROGRESSIONS

RATE = 48_000
DURATION_S = 30.0
FIRST_SEED = 50_000_000  # far above the seeds of any training music, and of the examples
_SEEDS_A_TRACK = 10_000  # a track's seeds are searched for its style, key and metre
_LOOPS_SEED = 5_000_000  # above the first seed: where the pieces over other loops begin
# One chord a bar, as the composer writes them; "5M" is the major dominant of a minor key.
LOOPS = {
    "major": (
        "1 5 2 4",
        "1 3 6 4",
        "2 5 1 6",
        "1 6 2 5",
        "1 2 4 1",
        "6 4 1 5",
        "4 1 5 6",
        "1 4 6 5",
    ),
    "minor": (
        "1 7 6 7",
        "1 5 4 1",
        "1 4 7 3",
        "4 1 5M 1",
        "1 6 3 7",
        "1 3 7 4",
        "1 5M 1 4",
        "1 7 4 1",
    ),
}


@dataclass(frozen=True)
class Labelled:
    """A piece and what is true of it.

    Attributes:
        file: its name in the folder of renders.
        seed: of the composer.
        style, metre, key, bpm: the labels; metre in beats a bar.
        loop: scale degrees of the chords, when they are not the composer's own.
    """

    file: str
    seed: int
    style: str
    metre: int
    key: str
    bpm: int
    loop: str = ""

    @property
    def beats_s(self) -> list[float]:
        """The beats of a whole piece, in seconds."""
        return np.arange(0, DURATION_S, 60 / self.bpm).tolist()


def planned(tracks: int, first_seed: int) -> Iterator[Labelled]:
    """The labels of `tracks` pieces."""
    names = list(STYLES)
    for index in range(tracks):
        turn, place = divmod(index, len(names))
        style = STYLES[names[place]]
        metre = 3 if turn % 2 and 3 in style.drums else 4
        key = ALL_KEYS[(7 * turn + 5 * place) % len(ALL_KEYS)].name
        for seed in count(first_seed + index * _SEEDS_A_TRACK):
            score = compose(seed, styles=(style.name,), duration_s=1.0)
            if (score.metre, score.key) == (metre, key):
                yield Labelled(f"{index:03d}.flac", seed, style.name, metre, key, score.bpm)
                break


def planned_loops(first_seed: int) -> Iterator[Labelled]:
    """The labels of two pieces over each of `LOOPS`."""
    names = list(STYLES)
    cases = [
        (mode, loop)
        for loops in zip(*LOOPS.values(), strict=True)
        for mode, loop in zip(LOOPS, loops, strict=True)
    ]
    for index, (mode, loop) in enumerate(2 * cases):
        style = names[index % len(names)]
        for seed in count(first_seed + _LOOPS_SEED + index * _SEEDS_A_TRACK):
            score = compose(seed, styles=(style,), duration_s=1.0)
            if score.harmony.mode == mode:
                file = f"loop-{index:02d}.flac"
                yield Labelled(file, seed, style, score.metre, score.key, score.bpm, loop)
                break


def composed(track: Labelled) -> Score:
    """The whole piece."""
    own = {}
    if track.loop:
        own = {mode: (tuple(track.loop.split()),) for mode in PROGRESSIONS}
    with patch.dict(PROGRESSIONS, own):
        return compose(track.seed, styles=(track.style,), duration_s=DURATION_S)


def render_track(synth: Synth, track: Labelled, path: Path) -> None:
    """Render a piece of exactly 30 s to `path`; lo-fi is aged as the demo's tracks are."""
    score = composed(track)
    audio = mix(synth.render(score))
    if track.style == LOFI:
        audio = age(audio, RATE, track.seed)
    write_audio(path, audio[:, : round(DURATION_S * RATE)], RATE)


def rendered(folder: Path, plan: Iterator[Labelled], display: Display) -> list[Labelled]:
    """The planned pieces, rendered into `folder`; what is there is not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    tracks = list(plan)
    missing = [track for track in tracks if not (folder / track.file).is_file()]
    synth = Synth(RATE) if missing else None
    with display.task("render", len(missing)) as task:
        for track in missing:
            assert synth is not None
            render_track(synth, track, folder / track.file)
            task.advance(note=f"{track.style}, {track.bpm} bpm, {track.key}")
    write_json(folder / "labels.json", [asdict(track) for track in tracks])
    return tracks
