"""How sure is a distance? Clips are drawn again with replacement; windows of a clip stay together.

Windows of one clip are alike, so drawing windows would promise more certainty than there is (Efron
and Tibshirani 1993, chapter 8: resample the units that are independent).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.errors import RequestError
from luthier.evaluation.frechet import Statistics, distance_to_windows

DRAWS = 200
_TAIL = 2.5  # percent at each end
MIN_CLIPS = 3  # of two clips there are only three different draws

Windows = NDArray[np.float64]


@dataclass(frozen=True)
class Gain:
    """How much nearer to the reference one set of clips is than another.

    Attributes:
        value: distance of the first minus distance of the second; positive is nearer.
        interval: 95 %, over clips drawn again, the same ones on both sides.
        clips: pairs of clips.
    """

    value: float
    interval: tuple[float, float]
    clips: int

    @property
    def certain(self) -> bool:
        """Whether the whole interval is on the side of a gain."""
        return self.interval[0] > 0


def fad_interval(
    reference: Statistics, clips: Sequence[Windows], *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of the distance of `clips`, each (n, dim); None below three clips.

    A draw repeats clips, which narrows its covariance and puts it further away; so the draws tell
    the spread and are centred on the distance itself.
    """
    if len(clips) < MIN_CLIPS:
        return None

    def value(chosen: NDArray[np.int64]) -> float:
        return distance_to_windows(reference, np.concatenate([clips[i] for i in chosen]))

    low, high = _interval(value, len(clips), draws, seed)
    return max(0.0, low), high


def fad_gain(
    reference: Statistics,
    before: Sequence[Windows],
    after: Sequence[Windows],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Gain:
    """By how much `after` is nearer to the reference than `before`; clips pair up by position.

    Pairs share prompt and seed, so what only those decide cancels out.

    Raises:
        RequestError: the two do not pair up, or there are fewer than three pairs.
    """
    if len(before) != len(after) or len(before) < MIN_CLIPS:
        raise RequestError(
            f"a gain is measured on at least {MIN_CLIPS} pairs of clips with the same prompt and "
            f"seed; there are {len(before)} and {len(after)} clips."
        )

    def value(chosen: NDArray[np.int64]) -> float:
        first = distance_to_windows(reference, np.concatenate([before[i] for i in chosen]))
        return first - distance_to_windows(reference, np.concatenate([after[i] for i in chosen]))

    everything = np.arange(len(before))
    return Gain(value(everything), _interval(value, len(before), draws, seed), len(before))


def _interval(
    value: Callable[[NDArray[np.int64]], float], count: int, draws: int, seed: int
) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    drawn = np.array([value(generator.integers(0, count, count)) for _ in range(draws)])
    centred = drawn - drawn.mean() + value(np.arange(count))
    low, high = np.percentile(centred, [_TAIL, 100 - _TAIL])
    return float(low), float(high)
