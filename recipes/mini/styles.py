"""The styles the composer knows: rhythm patterns, instruments (General MIDI programs), moods, feel.

A drum or rhythm pattern is a string, one character a sixteenth note: `x` a hit, `X` an accent, `.`
nothing. A 4/4 bar has 16 characters, a 3/4 bar 12. `lofi` stays out of the base training: it is
what the demo fine-tunes to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KICK, RIM, SNARE, CLAP, HAT, OPEN_HAT, RIDE, SHAKER = 36, 37, 38, 39, 42, 46, 51, 70

# Caption name -> General MIDI program (0-based).
PROGRAMS = {
    "piano": 0,
    "rhodes": 4,
    "electric piano": 5,
    "music box": 10,
    "vibraphone": 11,
    "organ": 16,
    "accordion": 21,
    "acoustic guitar": 24,
    "jazz guitar": 26,
    "electric guitar": 27,
    "distorted guitar": 30,
    "upright bass": 32,
    "bass guitar": 33,
    "synth bass": 38,
    "violin": 40,
    "cello": 42,
    "strings": 48,
    "choir": 52,
    "trumpet": 56,
    "brass": 61,
    "saxophone": 66,
    "clarinet": 71,
    "flute": 73,
    "synth lead": 81,
    "synth pads": 89,
}


@dataclass(frozen=True)
class Style:
    """One style. `drums` maps a General MIDI drum note to its pattern, per metre."""

    name: str
    tempo: tuple[int, int]
    drums: dict[int, tuple[dict[int, str], ...]]
    bass: dict[int, tuple[str, ...]]
    chords: dict[int, tuple[str, ...]]
    bass_instruments: tuple[str, ...]
    chord_instruments: tuple[str, ...]
    lead_instruments: tuple[str, ...]
    moods: tuple[str, ...] = ("bright", "calm")
    swing: float = 0.0
    seventh: bool = False
    pads: tuple[str, ...] = field(default=())


_BACKBEAT = {
    KICK: "X.......x.......",
    SNARE: "....X.......X...",
    HAT: "x.x.x.x.x.x.x.x.",
}
_DRIVE = {KICK: "X...x...X.x.....", SNARE: "....X.......X...", HAT: "x.x.x.x.x.x.x.x."}
_FLOOR = {KICK: "X...X...X...X...", CLAP: "....x.......x...", OPEN_HAT: "..x...x...x...x."}
_FLOOR_HATS = _FLOOR | {HAT: "xxx.xxx.xxx.xxx."}
_RIDE = {KICK: "x.......x.......", RIM: "....x.......x...", RIDE: "x...x..xx...x..x"}
_BOSSA = {KICK: "x..xx..xx..xx..x", RIM: "x..x..x...x..x..", HAT: "x.x.x.x.x.x.x.x."}
_SOFT = {KICK: "x.......x.......", SHAKER: "x.x.x.x.x.x.x.x."}
_WALTZ = {KICK: "X...........", SNARE: "....x...x...", HAT: "x...x...x..."}
_WALTZ_RIDE = {KICK: "X...........", RIM: "....x...x...", RIDE: "x...x..xx..."}
_WALTZ_SOFT = {KICK: "x...........", SHAKER: "x...x...x..."}

STYLES: dict[str, Style] = {
    s.name: s
    for s in (
        Style(
            "pop",
            (84, 140),
            {4: (_BACKBEAT, _DRIVE), 3: (_WALTZ,)},
            {4: ("X...x...x...x...", "X.....x.x.....x."), 3: ("X.......x...",)},
            {4: ("X.......x.......", "x...x...x...x..."), 3: ("X...x...x...",)},
            ("bass guitar",),
            ("piano", "acoustic guitar", "electric piano"),
            ("flute", "synth lead", "violin", "electric guitar"),
            ("bright", "happy", "upbeat", "catchy"),
            pads=("strings", "synth pads"),
        ),
        Style(
            "rock",
            (96, 140),
            {4: (_DRIVE, _BACKBEAT)},
            {4: ("x.x.x.x.x.x.x.x.", "X...x.x.X...x.x.")},
            {4: ("x.x.x.x.x.x.x.x.", "X.....x.X.....x.")},
            ("bass guitar",),
            ("electric guitar", "distorted guitar", "organ"),
            ("electric guitar", "organ", "saxophone"),
            ("energetic", "driving", "powerful"),
        ),
        Style(
            "house",
            (110, 140),
            {4: (_FLOOR, _FLOOR_HATS)},
            {4: ("..x...x...x...x.", "x..x..x.x..x..x.")},
            {4: ("..x...x...x...x.", "x..x..x...x..x..")},
            ("synth bass",),
            ("electric piano", "piano", "organ"),
            ("synth lead", "vibraphone", "saxophone"),
            ("energetic", "groovy", "hypnotic"),
            pads=("synth pads", "strings"),
        ),
        Style(
            "jazz",
            (72, 140),
            {4: (_RIDE,), 3: (_WALTZ_RIDE,)},
            {4: ("x...x...x...x...",), 3: ("x...x...x...",)},
            {4: ("X.....x.........", "....x.....x....."), 3: ("....x...x...",)},
            ("upright bass",),
            ("piano", "jazz guitar", "vibraphone"),
            ("saxophone", "trumpet", "clarinet"),
            ("smooth", "swinging", "smoky"),
            swing=0.33,
            seventh=True,
        ),
        Style(
            "bossa nova",
            (76, 132),
            {4: (_BOSSA,)},
            {4: ("X.....x.X.....x.",)},
            {4: ("x..x..x...x..x..",)},
            ("upright bass", "bass guitar"),
            ("acoustic guitar", "piano"),
            ("flute", "saxophone", "vibraphone"),
            ("gentle", "warm", "sunny"),
            seventh=True,
        ),
        Style(
            "folk",
            (66, 128),
            {4: (_SOFT,), 3: (_WALTZ_SOFT,)},
            {4: ("X.......x.......",), 3: ("X...........",)},
            {4: ("x.x.x.x.x.x.x.x.", "x...x.x.x...x.x."), 3: ("x.x.x.x.x.x.",)},
            ("upright bass",),
            ("acoustic guitar", "accordion"),
            ("violin", "flute", "clarinet"),
            ("warm", "gentle", "nostalgic"),
        ),
        Style(
            "ballad",
            (60, 92),
            {4: (_BACKBEAT, _SOFT), 3: (_WALTZ,)},
            {4: ("X.......x.....x.",), 3: ("X.......x...",)},
            {4: ("X...x...x...x...", "X.......x......."), 3: ("X...x...x...",)},
            ("bass guitar",),
            ("piano", "electric piano", "organ"),
            ("violin", "saxophone", "flute", "cello"),
            ("slow", "romantic", "emotional", "calm"),
            pads=("strings", "choir"),
        ),
        Style(
            "cinematic",
            (60, 110),
            {4: (_BACKBEAT, _SOFT), 3: (_WALTZ,)},
            {4: ("X.......X.......", "x.x.x.x.x.x.x.x."), 3: ("X...........",)},
            {4: ("X...............", "x.x.x.x.x.x.x.x."), 3: ("X...........",)},
            ("cello",),
            ("strings", "choir", "piano"),
            ("brass", "trumpet", "violin", "flute"),
            ("epic", "dramatic", "wide"),
        ),
        Style(
            "lofi hip hop",
            (66, 94),
            {
                4: (
                    {KICK: "X......x..x.....", SNARE: "....X.......X...", HAT: "x.x.x.x.x.x.x.x."},
                    {KICK: "X.........x.....", RIM: "....X.......X...", HAT: "x.x.x.xxx.x.x.x."},
                )
            },
            {4: ("X.......x.x.....", "X......x........")},
            {4: ("X.......x.......", "X.....x.........")},
            ("bass guitar", "upright bass"),
            ("rhodes", "electric piano", "piano"),
            ("vibraphone", "jazz guitar", "flute", "saxophone"),
            ("chill", "mellow", "nostalgic", "relaxing"),
            swing=0.4,
            seventh=True,
            pads=("synth pads",),
        ),
    )
}
LOFI = "lofi hip hop"
BASE_STYLES = tuple(name for name in STYLES if name != LOFI)
