"""From logits to one token: guidance, repetition penalty, top-k, top-p, temperature, in this order.

Only the logits of allowed tokens are looked at, so a step costs what the grammar leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 takes the likeliest.
        top_k: only so many of the likeliest; 0 for all.
        top_p: only the likeliest that together have this probability.
        repetition_penalty: logits of tokens that were read are divided by it (multiplied when
            negative).
        cfg_scale: how far to go from the unconditional prediction past the conditional one; 1: no
            guidance.
    """

    temperature: float = 0.85
    top_k: int = 0
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    cfg_scale: float = 2.0


def guided(conditional: Logits, unconditional: Logits, scale: float) -> Logits:
    """Classifier-free guidance (Ho and Salimans, 2022) on logits."""
    return unconditional + np.float32(scale) * (conditional - unconditional)


def choose(
    logits: Logits,
    sampling: Sampling,
    draw: np.random.Generator,
    seen: NDArray[np.bool_] | None = None,
) -> int:
    """The place of the drawn token in `logits` (n,).

    Args:
        seen: which of the tokens were read before, for the repetition penalty.
    """
    if seen is not None and sampling.repetition_penalty != 1.0:
        penalty = np.float32(sampling.repetition_penalty)
        punished = np.where(logits > 0, logits / penalty, logits * penalty)
        logits = np.where(seen, punished, logits)
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    kept = logits >= _threshold(logits, sampling)
    weights = np.where(kept, logits.astype(np.float64), -np.inf) / sampling.temperature
    shares = np.cumsum(np.exp(weights - weights.max()))
    place = int(np.searchsorted(shares, draw.random() * shares[-1], side="right"))
    # Rounding may put the draw on the very end.
    return min(place, int(np.flatnonzero(kept)[-1]))


def _threshold(logits: Logits, sampling: Sampling) -> np.float32:
    """The smallest logit that top-k and top-p keep."""
    full = sampling.top_p >= 1.0
    if full and not 0 < sampling.top_k < len(logits):
        return np.float32(-np.inf)
    falling = np.sort(logits)[::-1]
    if 0 < sampling.top_k < len(falling):
        falling = falling[: sampling.top_k]
    if full:
        return np.float32(falling[-1])
    shares = np.cumsum(np.exp(falling.astype(np.float64) - falling[0]))
    # The first token is always kept, and the one that crosses the threshold.
    last = int(np.searchsorted(shares, sampling.top_p * shares[-1]))
    return np.float32(falling[min(last, len(falling) - 1)])
