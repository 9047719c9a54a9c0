"""From a score to sound: FluidSynth with a General MIDI sound font, all stems in one pass.

Development only: needs libfluidsynth 3 and a sound font (Debian: fluidsynth, fluid-soundfont-gm,
both free software; FluidR3 GM is MIT-licensed). The library is called through ctypes, because one
synthesiser with an audio group a stem renders every stem at once, dry.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compose import DRUM_CHANNEL, Score

SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
_GROUPS = 5
_BLOCK = 64  # FluidSynth's own block: events take effect at its edges


class Synth:
    """A FluidSynth instance that renders scores to stems. Not thread-safe; one a process.

    Args:
        sample_rate: Hz of what it renders.
        sound_font: a General MIDI .sf2 file.
    """

    def __init__(self, sample_rate: int, sound_font: Path = SOUND_FONT) -> None:
        name = ctypes.util.find_library("fluidsynth")
        if name is None or not sound_font.is_file():
            raise RuntimeError(
                "FluidSynth or the sound font is missing: run  "
                "apt-get install fluidsynth fluid-soundfont-gm"
            )
        self.sample_rate = sample_rate
        self._lib = lib = ctypes.CDLL(name)
        for function in ("new_fluid_settings", "new_fluid_synth"):
            getattr(lib, function).restype = ctypes.c_void_p
        self._settings = ctypes.c_void_p(lib.new_fluid_settings())
        self._number("synth.sample-rate", float(sample_rate))
        self._number("synth.gain", 0.5)
        for key, value in (
            ("synth.audio-channels", _GROUPS),
            ("synth.audio-groups", _GROUPS),
            ("synth.reverb.active", 0),
            ("synth.chorus.active", 0),
            ("synth.polyphony", 128),
        ):
            lib.fluid_settings_setint(self._settings, key.encode(), ctypes.c_int(value))
        self._synth = ctypes.c_void_p(lib.new_fluid_synth(self._settings))
        if lib.fluid_synth_sfload(self._synth, str(sound_font).encode(), 1) < 0:
            raise RuntimeError(f"{sound_font} is not a sound font that FluidSynth can load")

    def _number(self, key: str, value: float) -> None:
        self._lib.fluid_settings_setnum(self._settings, key.encode(), ctypes.c_double(value))

    def render(self, score: Score, tail_s: float = 0.5) -> dict[str, NDArray[np.float32]]:
        """Render every stem: role -> (2, samples), panned and levelled, all of one length, not
        normalised.
        """
        total = int((score.duration_s + tail_s) * self.sample_rate) // _BLOCK * _BLOCK
        dry = np.zeros((len(score.stems), 2, total), np.float32)
        events = self._prepare(score)
        position, cursor = 0, 0
        while position < total:
            while cursor < len(events) and events[cursor][0] <= position:
                self._play(events[cursor])
                cursor += 1
            upcoming = events[cursor][0] if cursor < len(events) else total
            blocks = max(1, -(-(min(upcoming, total) - position) // _BLOCK))
            end = min(position + blocks * _BLOCK, total)
            self._process(dry, position, end)
            position = end
        return {s.role: _place(dry[i], s.gain, s.pan) for i, s in enumerate(score.stems)}

    def _prepare(self, score: Score) -> list[tuple[int, int, int, int]]:
        """Select programs; return (sample, channel, pitch, velocity) in order, velocity 0 a note
        off.
        """
        lib, synth = self._lib, self._synth
        lib.fluid_synth_system_reset(synth)
        events = []
        for index, stem in enumerate(score.stems):
            channel = self._channel(index, stem.program)
            if stem.program is not None:
                lib.fluid_synth_program_change(synth, channel, stem.program)
            for note in stem.notes:
                start = int(note.start_s * self.sample_rate)
                end = int((note.start_s + note.duration_s) * self.sample_rate)
                events.append((start, channel, note.pitch, note.velocity))
                events.append((max(end, start + _BLOCK), channel, note.pitch, 0))
        return sorted(events, key=lambda e: (e[0], e[3]))

    @staticmethod
    def _channel(index: int, program: int | None) -> int:
        # Audio group = channel modulo groups; drums must be on channel 9 = group 4, so it is the
        # last group.
        if program is None:
            return DRUM_CHANNEL
        return index - 1

    def _play(self, event: tuple[int, int, int, int]) -> None:
        _, channel, pitch, velocity = event
        if velocity:
            self._lib.fluid_synth_noteon(self._synth, channel, pitch, velocity)
        else:
            self._lib.fluid_synth_noteoff(self._synth, channel, pitch)

    def _process(self, dry: NDArray[np.float32], start: int, end: int) -> None:
        """Render samples start…end of every group into `dry`; stem 0 (drums) is the last group."""
        length = end - start
        groups = np.zeros((_GROUPS, 2, length), np.float32)
        pointers: Any = (ctypes.c_void_p * (2 * _GROUPS))(
            *(groups[g, c].ctypes.data for g in range(_GROUPS) for c in range(2))
        )
        self._lib.fluid_synth_process(self._synth, length, 0, None, 2 * _GROUPS, pointers)
        for stem in range(len(dry)):
            dry[stem, :, start:end] = groups[DRUM_CHANNEL % _GROUPS if stem == 0 else stem - 1]


def _place(stereo: NDArray[np.float32], gain: float, pan: float) -> NDArray[np.float32]:
    """Fold to the middle a little, then pan with constant power."""
    angle = (pan + 1.0) * np.pi / 4
    weights = np.sqrt(2.0) * np.array([[np.cos(angle)], [np.sin(angle)]], np.float32)
    return (gain * weights * stereo).astype(np.float32)


def mix(stems: dict[str, NDArray[np.float32]], peak: float = 0.8) -> NDArray[np.float32]:
    """Sum the stems and scale the sum to `peak`: (2, samples)."""
    total = np.sum(list(stems.values()), axis=0)
    return np.asarray(total * (peak / max(1e-6, float(np.abs(total).max()))), np.float32)
