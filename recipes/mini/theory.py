"""Keys, scales, chords and progressions: the harmony that the composer draws from. Pitch classes
0–11, C = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}

# Scale degrees (1–7), one chord a bar. All begin on the tonic, so that four bars tell the key;
# "5M" is the major dominant of the minor key (raised leading tone), which tells a minor key from
# its relative major.
PROGRESSIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "major": (
        ("1", "5", "6", "4"),
        ("1", "4", "5", "1"),
        ("1", "6", "4", "5"),
        ("1", "4", "1", "5"),
        ("1", "3", "4", "5"),
        ("1", "2", "5", "1"),
        ("1", "5", "4", "1"),
        ("1", "1", "4", "5"),
    ),
    "minor": (
        ("1", "6", "4", "5M"),
        ("1", "4", "5M", "1"),
        ("1", "7", "6", "5M"),
        ("1", "4", "1", "5M"),
        ("1", "6", "5M", "1"),
        ("1", "1", "4", "5M"),
        ("1", "4", "7", "1"),
        ("1", "6", "7", "1"),
    ),
}


@dataclass(frozen=True)
class Harmony:
    """A key: tonic pitch class and mode."""

    tonic: int
    mode: str

    def degree(self, step: int) -> int:
        """Semitones above the tonic of scale step `step` (0-based; beyond 6 climbs octaves)."""
        octave, index = divmod(step, 7)
        return 12 * octave + SCALES[self.mode][index]

    def chord(self, symbol: str, seventh: bool = False) -> tuple[int, ...]:
        """Semitones above the tonic of the triad (or seventh chord) on a degree: root, third,
        fifth(, seventh).
        """
        root = int(symbol[0]) - 1
        steps = (0, 2, 4, 6) if seventh else (0, 2, 4)
        tones = [self.degree(root + s) for s in steps]
        if symbol.endswith("M"):
            tones[1] = tones[0] + 4
        return tuple(tones)
