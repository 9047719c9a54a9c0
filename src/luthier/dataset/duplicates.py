"""Fingerprints of tracks → groups that are the same recording: other encoding, gain or start.

Nothing is removed on the strength of it: one track of a group is named to keep, people decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from luthier.audio.fingerprint import BITS, Words, decode, signs, words_similarity

# Copies agree by 0.6 or more, tracks of one composer by less than 0.3.
SAME_TRACK = 0.5
_COARSE_BITS = slice(0, BITS, 8)
_COARSE_FRAMES = 2048  # four minutes
_COARSE_LEAST = 0.2  # of the shorter one's bits: half an overlap at `SAME_TRACK`, and some slack


@dataclass(frozen=True)
class DuplicateGroup:
    """Tracks that hold the same recording.

    Attributes:
        kept: the one that would be kept.
        others: the rest with their similarity to it, 0..1.
    """

    kept: str
    others: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, object]:
        """The group as it stands in `curation.json`."""
        others = [{"source": name, "similarity": alike} for name, alike in self.others]
        return {"kept": self.kept, "others": others}


def find_duplicates(fingerprints: Mapping[str, str | None]) -> list[DuplicateGroup]:
    """Group tracks by what they sound like.

    Args:
        fingerprints: by track, the one to keep first; None and short ones are in no group.

    Returns:
        Groups in the order of the kept tracks. All others of a group are like the kept one itself,
        so that no chain of half-alike tracks becomes a group.
    """
    names = [name for name, text in fingerprints.items() if text]
    words = [decode(fingerprints[name] or "") for name in names]
    near: dict[int, list[int]] = _candidates(words)
    groups, taken = [], set[int]()
    for first in range(len(names)):
        if first in taken:
            continue
        alike = {i: words_similarity(words[first], words[i]) for i in near[first] if i not in taken}
        found = {i: value for i, value in alike.items() if value >= SAME_TRACK}
        if found:
            taken.update(found)
            others = tuple((names[i], value) for i, value in found.items())
            groups.append(DuplicateGroup(names[first], others))
    return groups


def _candidates(words: Sequence[Words]) -> dict[int, list[int]]:
    """For every track the later ones that may be the same: an eighth of the bits is compared."""
    lengths = np.array([min(len(w), _COARSE_FRAMES) for w in words])
    size = 1 << int(2 * max(lengths, default=1)).bit_length()
    spectra = np.stack([_spectrum(w, size) for w in words]) if words else np.zeros((0, 4, 1))
    near: dict[int, list[int]] = {}
    for i in range(len(words)):
        product = np.einsum("nkf,kf->nf", spectra[i + 1 :], np.conj(spectra[i]))
        best = np.fft.irfft(product, size, axis=1).max(axis=1, initial=0.0)
        bits = spectra.shape[1] * np.minimum(lengths[i + 1 :], lengths[i])
        near[i] = [int(j) + i + 1 for j in np.flatnonzero(best >= _COARSE_LEAST * bits)]
    return near


def _spectrum(words: Words, size: int) -> NDArray[np.complex64]:
    coarse = signs(words[:_COARSE_FRAMES])[:, _COARSE_BITS]
    return np.fft.rfft(coarse, size, axis=0).T.astype(np.complex64)


def duplicate_notes(groups: Sequence[DuplicateGroup], names: Mapping[str, str]) -> dict[str, str]:
    """A sentence for every track in a group, by track. `names` are what to call them."""
    notes = {}
    for group in groups:
        count = len(group.others)
        more = f" and {count - 3} more" if count > 3 else ""
        listed = ", ".join(names[other] for other, _ in islice(group.others, 3))
        notes[group.kept] = f"the same recording as {listed}{more}"
        for other, alike in group.others:
            notes[other] = f"the same recording as {names[group.kept]} (similarity {alike:.2f})"
    return notes
