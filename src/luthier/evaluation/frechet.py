"""Two sets of embedding windows → the Fréchet distance between them. Knows numbers only, no audio.

The distance between the Gaussians fitted to both sets (Dowson and Landau 1982), which Kilgour et
al. 2019 made the
Fréchet audio distance: |m1 − m2|² + tr(C1 + C2 − 2 (C1 C2)^½). Its scale depends on the embedding
and on the number of windows, so a value is only worth something beside both; `FadResult` carries
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from luthier.errors import AudioError

_EXTRAPOLATION_STEPS = 16
_EXTRAPOLATION_DRAWS = 4  # the mean of a few draws a step: one draw alone is noisy at small n
_SMALLEST_SHARE = 0.25


@dataclass(frozen=True)
class Statistics:
    """Mean (dim,) and covariance (dim, dim) of `count` embedding windows."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int

    @classmethod
    def from_windows(cls, windows: NDArray[np.float64], shrinkage: float = 0.0) -> Statistics:
        """Fit to `windows` (n, dim), n ≥ 2.

        Args:
            windows: one embedding a row.
            shrinkage: weight in [0, 1] of the multiple of the identity with the same trace (Ledoit
                and Wolf 2004), for fewer windows than dimensions. The default, 0, is what other FAD
                tools compute; the distance below needs no full rank.

        Raises:
            AudioError: fewer than two windows, or a value that is not finite.
        """
        if windows.ndim != 2 or len(windows) < 2:
            raise AudioError(
                f"a distribution needs at least 2 embedding windows, not {len(windows)}: "
                "give more or longer audio."
            )
        if not np.isfinite(windows).all():
            raise AudioError("the embedding windows hold values that are not finite (NaN or Inf).")
        covariance = np.atleast_2d(np.cov(windows, rowvar=False))
        dim = windows.shape[1]
        target = np.eye(dim) * (np.trace(covariance) / dim)
        covariance = (1.0 - shrinkage) * covariance + shrinkage * target
        return cls(windows.mean(axis=0), covariance, len(windows))

    @cached_property
    def root(self) -> NDArray[np.float64]:
        """The symmetric square root of the covariance, (dim, dim)."""
        return _root(self.covariance)


@dataclass(frozen=True)
class FadResult:
    """A Fréchet audio distance with what is needed to read it."""

    value: float
    embedding: str
    n_reference: int  # windows
    n_candidate: int  # windows
    dim: int
    infinite: float | None  # extrapolated to endlessly many windows; None below 40
    infinite_r2: float | None  # how well the line through the subsets fits
    interval: tuple[float, float] | None = None  # 95 %, over resampled clips

    @property
    def warning(self) -> str | None:
        """What makes the value doubtful, in a sentence; None when there are windows enough."""
        short = [
            f"{count} windows of {what}"
            for count, what in ((self.n_reference, "real"), (self.n_candidate, "generated"))
            if count <= self.dim
        ]
        if not short:
            return None
        return (
            f"{' and '.join(short)} audio are too few for {self.dim} dimensions (the covariance "
            "has no full rank): the distance is too large by an unknown amount. Compare it only "
            "with values of equally many windows, or measure more audio."
        )

    def to_json(self) -> dict[str, str | float | int | list[float] | None]:
        """The JSON object that evaluations hold under `fad`."""
        return {
            "value": round(self.value, 6),
            "embedding": self.embedding,
            "n_reference": self.n_reference,
            "n_candidate": self.n_candidate,
            "dim": self.dim,
            "fad_infinity": None if self.infinite is None else round(self.infinite, 6),
            "fad_infinity_r2": None if self.infinite_r2 is None else round(self.infinite_r2, 4),
            "interval_95": None if self.interval is None else [round(v, 6) for v in self.interval],
            "warning": self.warning,
        }


def frechet_distance(
    mean1: NDArray[np.float64],
    covariance1: NDArray[np.float64],
    mean2: NDArray[np.float64],
    covariance2: NDArray[np.float64],
) -> float:
    """The squared Fréchet (2-Wasserstein) distance of two Gaussians, (dim,) and (dim, dim) each.

    tr((C1 C2)^½) is the sum of the singular values of C1^½ C2^½. Both roots come from symmetric
    eigendecompositions, so that nothing turns complex and a covariance without full rank needs no
    added noise.
    """
    cross = np.linalg.svd(_root(covariance1) @ _root(covariance2), compute_uv=False).sum()
    offset = mean1 - mean2
    total = offset @ offset + np.trace(covariance1) + np.trace(covariance2) - 2.0 * cross
    return max(0.0, float(total))


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    return root


def distance(first: Statistics, second: Statistics) -> float:
    """`frechet_distance` of two fitted sets."""
    return frechet_distance(first.mean, first.covariance, second.mean, second.covariance)


def distance_to_windows(reference: Statistics, windows: NDArray[np.float64]) -> float:
    """`distance` to the set `windows` (n, dim), n ≥ 2: quick for many sets against one reference.

    tr((C1 C2)^½) is also the sum of the singular values of X C1^½, where X are the centred windows
    over √(n − 1): neither C2 nor its root is needed.
    """
    count, dim = windows.shape
    mean = windows.mean(axis=0)
    centred = (windows - mean) / np.sqrt(count - 1)
    product = centred @ reference.root
    if count > dim:
        squares = np.linalg.eigvalsh(product.T @ product)
        cross = np.sqrt(np.clip(squares, 0.0, None)).sum()
    else:
        cross = np.linalg.svd(product, compute_uv=False).sum()
    offset = mean - reference.mean
    traces = np.trace(reference.covariance) + np.sum(centred**2)
    return max(0.0, float(offset @ offset + traces - 2.0 * cross))


def fad(
    reference: NDArray[np.float64],
    candidate: NDArray[np.float64],
    *,
    embedding: str,
    seed: int = 0,
) -> FadResult:
    """The Fréchet audio distance of `candidate` windows (n, dim) to `reference` windows (m, dim).

    Args:
        reference: windows of the real tracks.
        candidate: windows of the generated clips.
        embedding: the name of the embedding that made both.
        seed: of the subsets that FAD∞ draws.
    """
    base = Statistics.from_windows(reference)
    value = distance(base, Statistics.from_windows(candidate))
    infinite = fad_infinity(base, candidate, seed=seed)
    return FadResult(
        value=value,
        embedding=embedding,
        n_reference=len(reference),
        n_candidate=len(candidate),
        dim=reference.shape[1],
        infinite=None if infinite is None else infinite[0],
        infinite_r2=None if infinite is None else infinite[1],
    )


def fad_infinity(
    reference: Statistics, candidate: NDArray[np.float64], *, seed: int = 0, smallest: int = 40
) -> tuple[float, float] | None:
    """The distance at endlessly many candidate windows, extrapolated: (value, r²), or None below
    `smallest` windows.

    The bias of the distance falls as 1/n (Chong and Forsyth 2020; Gui et al. 2024 for audio), so a
    line through the distances of random subsets over 1/n meets the axis at the unbiased value. It
    can be slightly negative.
    """
    count = len(candidate)
    if count < smallest:
        return None
    generator = np.random.default_rng(seed)
    low = max(int(count * _SMALLEST_SHARE), smallest // 4)
    # Even spacing in 1/n, so that no part of the line weighs more than another.
    sizes = np.unique((1.0 / np.linspace(1 / low, 1 / count, _EXTRAPOLATION_STEPS)).round()).astype(
        int
    )
    values = [_mean_distance(reference, candidate, int(size), generator) for size in sizes]
    inverse = 1.0 / sizes
    slope, intercept = np.polyfit(inverse, values, 1)
    residual = np.asarray(values) - (slope * inverse + intercept)
    spread = float(np.var(values))
    return float(intercept), 1.0 - float(np.var(residual)) / spread if spread > 0 else 1.0


def _mean_distance(
    reference: Statistics,
    candidate: NDArray[np.float64],
    size: int,
    generator: np.random.Generator,
) -> float:
    draws = 1 if size == len(candidate) else _EXTRAPOLATION_DRAWS
    subsets = (generator.permutation(len(candidate))[:size] for _ in range(draws))
    return float(np.mean([distance_to_windows(reference, candidate[subset]) for subset in subsets]))
