"""From a seed to a score whose labels are exact: tempo, key, time signature, instruments, stems,
caption.

A score is a handful of stems (drums, bass, chords, pads, lead), each a list of notes in seconds.
It begins on the first downbeat. Nothing here makes sound: `render` does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from luthier.audio.keynames import Key

from .styles import BASE_STYLES, PROGRAMS, STYLES, Style
from .theory import PROGRESSIONS, Harmony

DRUM_CHANNEL = 9
TEMPO_RANGE = (60, 140)


@dataclass(frozen=True)
class Note:
    """One note: times in seconds, MIDI pitch, velocity 1–127."""

    start_s: float
    duration_s: float
    pitch: int
    velocity: int


@dataclass
class Stem:
    """One instrument's part. `program` is a General MIDI program, or None for drums."""

    role: str
    instrument: str
    program: int | None
    gain: float
    pan: float
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Score:
    """A composed piece and its exact labels."""

    seed: int
    style: str
    mood: str
    bpm: int
    metre: int
    harmony: Harmony
    duration_s: float
    stems: tuple[Stem, ...]

    @property
    def key(self) -> str:
        """The key's usual name, e.g. "A minor"."""
        return Key(tonic=self.harmony.tonic, mode=self.harmony.mode).name  # type: ignore[arg-type]

    @property
    def instruments(self) -> tuple[str, ...]:
        """Instrument names as they appear in the caption."""
        return tuple(dict.fromkeys(stem.instrument for stem in self.stems))


class _Bars:
    """Turns (bar, sixteenth) into seconds, with swing on the off-sixteenths' eighth notes."""

    def __init__(self, bpm: int, metre: int, swing: float) -> None:
        self.sixteenth = 15.0 / bpm
        self.steps = 4 * metre
        self.swing = swing

    def time(self, bar: int, step: int) -> float:
        late = self.swing * self.sixteenth if step % 4 == 2 else 0.0
        return (bar * self.steps + step) * self.sixteenth + late


def compose(
    seed: int,
    *,
    styles: tuple[str, ...] = BASE_STYLES,
    duration_s: float = 12.0,
    tempo: tuple[int, int] = TEMPO_RANGE,
) -> Score:
    """Compose a piece of at least `duration_s` seconds (whole bars) from `seed`."""
    rng = random.Random(seed)
    style = STYLES[rng.choice(styles)]
    low, high = max(style.tempo[0], tempo[0]), min(style.tempo[1], tempo[1])
    bpm = rng.randint(low, high)
    metre = rng.choice(sorted(style.drums)) if rng.random() < 0.5 else 4
    harmony = Harmony(rng.randrange(12), rng.choice(("major", "minor")))
    bars = int(-(-duration_s // (metre * 60.0 / bpm)))
    grid = _Bars(bpm, metre, style.swing)
    progression = rng.choice(PROGRESSIONS[harmony.mode])
    chords = [harmony.chord(progression[b % len(progression)], style.seventh) for b in range(bars)]

    stems = [_drums(rng, style, grid, metre, bars), _bass(rng, style, grid, metre, harmony, chords)]
    stems.append(_chords(rng, style, grid, metre, harmony, chords))
    if style.pads and rng.random() < 0.5:
        stems.append(_pads(rng, style, grid, harmony, chords))
    if rng.random() < 0.7:
        stems.append(_lead(rng, style, grid, harmony, chords))
    return Score(
        seed=seed,
        style=style.name,
        mood=rng.choice(style.moods),
        bpm=bpm,
        metre=metre,
        harmony=harmony,
        duration_s=bars * metre * 60.0 / bpm,
        stems=tuple(stems),
    )


def _hits(pattern: str) -> list[tuple[int, bool]]:
    return [(i, c == "X") for i, c in enumerate(pattern) if c != "."]


def _drums(rng: random.Random, style: Style, grid: _Bars, metre: int, bars: int) -> Stem:
    stem = Stem("drums", "drums", None, gain=0.9, pan=0.0)
    pattern = rng.choice(style.drums[metre])
    for bar in range(bars):
        for drum, line in pattern.items():
            for step, accent in _hits(line):
                velocity = (112 if accent else 92) + rng.randint(-6, 6)
                stem.notes.append(Note(grid.time(bar, step), 0.1, drum, velocity))
    return stem


def _bass(
    rng: random.Random,
    style: Style,
    grid: _Bars,
    metre: int,
    harmony: Harmony,
    chords: list[tuple[int, ...]],
) -> Stem:
    name = rng.choice(style.bass_instruments)
    stem = Stem("bass", name, PROGRAMS[name], gain=1.0, pan=0.0)
    pattern = _hits(rng.choice(style.bass[metre]))
    for bar, chord in enumerate(chords):
        for i, (step, _) in enumerate(pattern):
            following = pattern[i + 1][0] if i + 1 < len(pattern) else grid.steps
            tone = chord[2] if style.name == "jazz" and i % 2 and rng.random() < 0.5 else chord[0]
            pitch = _near(harmony.tonic + tone, 40)
            stem.notes.append(
                _note(grid, bar, step, following - step, pitch, 100 + rng.randint(-6, 6))
            )
    return stem


def _chords(
    rng: random.Random,
    style: Style,
    grid: _Bars,
    metre: int,
    harmony: Harmony,
    chords: list[tuple[int, ...]],
) -> Stem:
    name = rng.choice(style.chord_instruments)
    stem = Stem("chords", name, PROGRAMS[name], gain=0.8, pan=rng.uniform(-0.4, 0.4))
    pattern = _hits(rng.choice(style.chords[metre]))
    centre = rng.randint(57, 64)
    for bar, chord in enumerate(chords):
        for i, (step, accent) in enumerate(pattern):
            following = pattern[i + 1][0] if i + 1 < len(pattern) else grid.steps
            velocity = (92 if accent else 80) + rng.randint(-6, 6)
            for tone in chord:
                pitch = _near(harmony.tonic + tone, centre)
                stem.notes.append(_note(grid, bar, step, following - step, pitch, velocity))
    return stem


def _pads(
    rng: random.Random, style: Style, grid: _Bars, harmony: Harmony, chords: list[tuple[int, ...]]
) -> Stem:
    name = rng.choice(style.pads)
    stem = Stem("pads", name, PROGRAMS[name], gain=0.5, pan=rng.uniform(-0.3, 0.3))
    for bar, chord in enumerate(chords):
        for tone in chord[:3]:
            pitch = _near(harmony.tonic + tone, 62)
            stem.notes.append(_note(grid, bar, 0, grid.steps, pitch, 70))
    return stem


def _lead(
    rng: random.Random, style: Style, grid: _Bars, harmony: Harmony, chords: list[tuple[int, ...]]
) -> Stem:
    """A line of chord tones on strong beats and scale steps between them, in phrases with rests."""
    name = rng.choice(style.lead_instruments)
    stem = Stem("lead", name, PROGRAMS[name], gain=0.75, pan=rng.uniform(-0.3, 0.3))
    step_of = rng.choice((2, 4))
    degree = rng.choice((0, 2, 4))
    for bar, chord in enumerate(chords):
        if rng.random() < 0.2:
            continue
        position = 0
        while position < grid.steps:
            length = step_of * rng.choice((1, 1, 2))
            length = min(length, grid.steps - position)
            if rng.random() < 0.85:
                if position % 8 == 0:
                    semitones = rng.choice(chord[:3]) % 12
                else:
                    degree = max(-2, min(9, degree + rng.choice((-1, 1, 1, -1, 2, -2))))
                    semitones = harmony.degree(degree) % 12
                pitch = _near(harmony.tonic + semitones, 72)
                stem.notes.append(
                    _note(grid, bar, position, length, pitch, 90 + rng.randint(-8, 8))
                )
            position += length
    return stem


def _note(grid: _Bars, bar: int, step: int, length: int, pitch: int, velocity: int) -> Note:
    start = grid.time(bar, step)
    return Note(start, 0.92 * length * grid.sixteenth, pitch, velocity)


def _near(pitch: int, centre: int) -> int:
    """The octave of `pitch` within half an octave of `centre`."""
    return centre + (pitch - centre + 6) % 12 - 6


def caption(score: Score, rng: random.Random) -> str:
    """A caption as people write them: style, mood and instruments as tags, in varying order and
    detail.
    """
    instruments = list(score.instruments)
    rng.shuffle(instruments)
    if rng.random() < 0.3:
        instruments = instruments[: rng.randint(1, len(instruments))]
    head = [score.style, score.mood] if rng.random() < 0.8 else [score.style]
    extras = []
    if rng.random() < 0.15:
        extras.append(f"{score.bpm} bpm")
    if rng.random() < 0.15:
        extras.append(score.key)
    if rng.random() < 0.4:
        return f"{' '.join(reversed(head))} with {_listed(instruments)}" + "".join(
            f", {e}" for e in extras
        )
    return ", ".join([*head, *instruments, *extras])


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
