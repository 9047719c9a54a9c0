"""Guidance: the velocities with and without a prompt → one that follows the prompt more closely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Latents = NDArray[np.float32]

_MOMENTUM = -0.75
_NORM_THRESHOLD = 2.5
_TIME_AXIS = 1


def classifier_free(conditional: Latents, unconditional: Latents, scale: float) -> Latents:
    """Plain classifier-free guidance (Ho & Salimans 2022) of velocities [B, T, C]."""
    guided: Latents = unconditional + np.float32(scale) * (conditional - unconditional)
    return guided


class ProjectedGuidance:
    """Adaptive projected guidance (Sadat et al. 2024) with ACE-Step's constants.

    Only the part of the difference that is orthogonal to the conditional velocity is added, so that
    a strong scale does not push everything louder; momentum is kept between steps. Norms and
    projections run over time, for each channel, in float64.
    """

    def __init__(self) -> None:
        self._average: NDArray[np.float64] | None = None

    def __call__(self, conditional: Latents, unconditional: Latents, scale: float) -> Latents:
        """Guide one step's velocities [B, T, C]."""
        towards = conditional.astype(np.float64)
        difference = towards - unconditional.astype(np.float64)
        if self._average is not None:
            difference = difference + _MOMENTUM * self._average
        self._average = difference
        difference = difference * np.minimum(1.0, _NORM_THRESHOLD / _norm(difference))
        direction = towards / _norm(towards)
        parallel = np.sum(difference * direction, axis=_TIME_AXIS, keepdims=True) * direction
        guided: Latents = (towards + (scale - 1.0) * (difference - parallel)).astype(np.float32)
        return guided


def _norm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    norm: NDArray[np.float64] = np.sqrt(np.sum(values**2, axis=_TIME_AXIS, keepdims=True))
    return np.maximum(norm, 1e-12)
