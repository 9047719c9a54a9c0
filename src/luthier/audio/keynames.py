"""Musical keys by name: "Am", "A minor", "B♭ maj" … → `Key`, and back to the usual spelling."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from luthier.errors import RequestError

Mode = Literal["major", "minor"]

# The spelling with the fewer accidentals in the key signature, as printed music has it.
_NAMES: dict[Mode, tuple[str, ...]] = {
    "major": ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"),
    "minor": ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"),
}
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1, "sharp": 1, "flat": -1}
_MODES: dict[str, Mode] = {
    "": "major", "M": "major", "maj": "major", "major": "major", "dur": "major",
    "m": "minor", "-": "minor", "min": "minor", "minor": "minor", "moll": "minor",
}  # fmt: skip
_PATTERN = re.compile(r"([A-Ga-g])[ _-]?(#|♯|b|♭|sharp|flat)?[ _:-]*([A-Za-z]*|-)", re.IGNORECASE)


@dataclass(frozen=True)
class Key:
    """A tonic and a mode.

    Attributes:
        tonic: pitch class, 0 = C … 11 = B.
        mode: "major" or "minor".
        confidence: 0..1; 1 when the key was stated rather than estimated.
    """

    tonic: int
    mode: Mode
    confidence: float = 1.0

    @property
    def name(self) -> str:
        """The usual spelling, e.g. "F# minor", "Bb major"."""
        return f"{_NAMES[self.mode][self.tonic]} {self.mode}"

    @property
    def relative(self) -> Key:
        """The key with the same notes and the other mode."""
        if self.mode == "major":
            return Key((self.tonic + 9) % 12, "minor", self.confidence)
        return Key((self.tonic + 3) % 12, "major", self.confidence)

    def same_as(self, other: Key) -> bool:
        """Whether tonic and mode agree, whatever the confidences."""
        return (self.tonic, self.mode) == (other.tonic, other.mode)


ALL_KEYS = tuple(Key(tonic, mode) for mode in ("major", "minor") for tonic in range(12))


def parse_key(text: str) -> Key:
    """Read a key as people write it; anything else raises `RequestError` with the nearest name.

    >>> parse_key("F#m").name
    'F# minor'
    """
    match = _PATTERN.fullmatch(text.strip())
    if match:
        letter, accidental, mode_text = match.groups()
        accidental = (accidental or "").lower()
        mode = _MODES.get(mode_text) or _MODES.get(mode_text.lower())
        if mode:
            return Key((_LETTERS[letter.upper()] + _ACCIDENTALS[accidental]) % 12, mode)
    likeness = difflib.SequenceMatcher(b=_tidy(text))
    nearest = max((key.name for key in ALL_KEYS), key=lambda name: _ratio(likeness, name))
    raise RequestError(
        f'"{text}" is not a key. A key is a letter A to G, # or b or nothing, and major or minor, '
        f'such as "A minor", "F# major" or "Bbm"; the nearest to yours is "{nearest}".'
    )


def _ratio(likeness: difflib.SequenceMatcher[str], name: str) -> float:
    likeness.set_seq1(name)
    return likeness.ratio()


def _tidy(text: str) -> str:
    """The text in the shape of a key name, so that "h moll" is compared as "B minor"."""
    words = text.strip().split()[:3]
    if words and words[0].upper() == "H":  # the German name
        words[0] = "B"
    if words and words[-1].lower() in _MODES:
        words[-1] = _MODES[words[-1].lower()]
    return " ".join([w.capitalize() if i == 0 else w.lower() for i, w in enumerate(words)])
