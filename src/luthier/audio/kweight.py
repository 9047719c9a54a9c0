"""K-weighting of ITU-R BS.1770 on blocks: recursive filters as matrix products, exact and fast.

A recursive filter is slow sample by sample in numpy. In state-space form, 32 samples depend on
their inputs by a fixed matrix and on what was before by the filter's four states; states from one
32 to the next are summed in doubling steps. All of it is BLAS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RUN = 32  # samples that one product covers: blocks are multiples of it
LOWEST_RATE = 4000  # below, the shelf lies beyond the band
_NEGLIGIBLE = 1e-9

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


class KWeighting:
    """The filter over several channels, block after block."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._tables = _tables(sample_rate)
        self._state = np.zeros((channels, 4))

    def filter(self, block: Floats) -> Floats:
        """Filter the next (channels, n) samples, n a multiple of 32."""
        t = self._tables
        channels, runs = block.shape[0], block.shape[1] // RUN
        both = block.reshape(channels * runs, RUN) @ t.products
        # States before each run; the last row is for the next block.
        states = np.empty((channels, runs + 1, 4))
        states[:, 0] = self._state
        states[:, 1:] = both[:, RUN:].reshape(channels, runs, 4)
        for distance, power in t.steps:
            if distance > runs:
                break
            states[:, distance:] += states[:, :-distance] @ power
        self._state = states[:, -1].copy()
        past = states[:, :-1].reshape(channels * runs, 4).astype(np.float32)
        out: Floats = both[:, :RUN]
        out += past @ t.echo
        return out.reshape(channels, runs * RUN)


@dataclass(frozen=True)
class _Tables:
    """For rows of samples x and states s: out = x · products[:, :32] + s · echo,
    next s = x · products[:, 32:] + s · steps[0]."""

    products: Floats  # (32, 36)
    echo: Floats  # (4, 32)
    steps: tuple[tuple[int, Doubles], ...]  # runs apart, the states' (4, 4) over so many


@lru_cache(maxsize=8)
def _tables(sample_rate: int) -> _Tables:
    a, b, c, d = _state_space(sample_rate)
    powers = [np.eye(4)]
    for _ in range(RUN):
        powers.append(powers[-1] @ a)
    response = [float(d), *(float(c @ powers[k] @ b) for k in range(RUN - 1))]
    products = np.zeros((RUN, RUN + 4))
    for i in range(RUN):
        products[i, i:RUN] = response[: RUN - i]
        products[i, RUN:] = powers[RUN - 1 - i] @ b
    steps = []
    distance, power = 1, powers[RUN]
    while np.abs(power).max() > _NEGLIGIBLE:
        steps.append((distance, np.ascontiguousarray(power.T)))
        distance, power = 2 * distance, power @ power
    echo = np.array([c @ powers[k] for k in range(RUN)]).T
    return _Tables(products.astype(np.float32), echo.astype(np.float32), tuple(steps))


def _state_space(sample_rate: int) -> tuple[Doubles, Doubles, Doubles, float]:
    """(A, b, c, d) of both biquads in a row: s' = A s + b x, y = c s + d x."""
    parts = []
    for numerator, (a1, a2) in k_coefficients(sample_rate):
        b0, b1, b2 = numerator
        # The high pass is critically damped just below 0 Hz: differences of its states stay exact.
        turn = np.array([[1.0, 0.0], [1.0, 1.0]])
        a = turn @ np.array([[-a1, 1.0], [-a2, 0.0]]) @ np.linalg.inv(turn)
        b = turn @ np.array([b1 - a1 * b0, b2 - a2 * b0])
        parts.append((a, b, np.array([1.0, 0.0]) @ np.linalg.inv(turn), b0))
    (a1_, b1_, c1_, d1_), (a2_, b2_, c2_, d2_) = parts
    a = np.block([[a1_, np.zeros((2, 2))], [np.outer(b2_, c1_), a2_]])
    return a, np.concatenate([b1_, b2_ * d1_]), np.concatenate([d2_ * c1_, c2_]), d1_ * d2_


def k_coefficients(sample_rate: int) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """(b, a without the leading 1) of the high shelf and the high pass, for any rate.

    The analogue prototypes behind BS.1770's 48 kHz tables by the bilinear transform, as
    libebur128 does.
    """
    shelf_hz, shelf_gain_db, shelf_q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
    k = np.tan(np.pi * shelf_hz / sample_rate)
    high = 10 ** (shelf_gain_db / 20)
    band = high**0.4996667741545416
    norm = 1 + k / shelf_q + k * k
    shelf_b = (
        (high + band * k / shelf_q + k * k) / norm,
        2 * (k * k - high) / norm,
        (high - band * k / shelf_q + k * k) / norm,
    )
    shelf_a = (2 * (k * k - 1) / norm, (1 - k / shelf_q + k * k) / norm)
    pass_hz, pass_q = 38.13547087602444, 0.5003270373238773
    k = np.tan(np.pi * pass_hz / sample_rate)
    norm = 1 + k / pass_q + k * k
    pass_a = (2 * (k * k - 1) / norm, (1 - k / pass_q + k * k) / norm)
    return [(shelf_b, shelf_a), ((1.0, -2.0, 1.0), pass_a)]
