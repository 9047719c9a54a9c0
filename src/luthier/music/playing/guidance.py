"""Guidance: the velocities with and without a prompt → one that follows the prompt more closely.

Velocities and latents are [B, T, C]; frames that pad an item are 0 in all of them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Latents = NDArray[np.float32]

_MOMENTUM = -0.75
_NORM_THRESHOLD = 2.5
_TIME_AXIS = 1
_ANGLE_CLIP = 3.14 / 6
_SMALL_SINE = 1e-3


class Guide(Protocol):
    """Guides one step; may remember the steps before."""

    def __call__(
        self, conditional: Latents, unconditional: Latents, scale: float, x: Latents, time: float
    ) -> Latents:
        """The guided velocity at `time`, where the latents are `x`."""


def guide_named(method: str) -> Guide:
    """A new guide: apg, adg or cfg."""
    if method == "adg":
        return angle_based
    projected = ProjectedGuidance() if method == "apg" else classifier_free

    def guide(
        conditional: Latents, unconditional: Latents, scale: float, x: Latents, time: float
    ) -> Latents:
        return projected(conditional, unconditional, scale)

    return guide


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
        difference = difference * np.minimum(1.0, _NORM_THRESHOLD / _norm(difference, _TIME_AXIS))
        direction = towards / _norm(towards, _TIME_AXIS)
        parallel = np.sum(difference * direction, axis=_TIME_AXIS, keepdims=True) * direction
        guided: Latents = (towards + (scale - 1.0) * (difference - parallel)).astype(np.float32)
        return guided


def angle_based(
    conditional: Latents, unconditional: Latents, scale: float, x: Latents, time: float
) -> Latents:
    """Angle-domain guidance, as ACE-Step uses it: turn the predicted music away from what it would
    be without the prompt, by a limited angle a frame, in float64.

    Args:
        x: the latents that the velocities were computed at.
        time: of these latents, above 0.
    """
    weight = max(scale - 1.0, 0.0) + 1e-3
    here = x.astype(np.float64)
    prompted = here - time * conditional.astype(np.float64)
    plain = here - time * unconditional.astype(np.float64)
    length, other = _norm(prompted, -1), _norm(plain, -1)
    cosine = np.sum((prompted / length) * (plain / other), axis=-1, keepdims=True)
    angle = np.arccos(np.clip(cosine, -1.0 + 1e-6, 1.0 - 1e-6))
    turned = np.clip(weight * angle, -_ANGLE_CLIP, _ANGLE_CLIP)
    difference = prompted - plain
    share = np.sum(difference * plain, axis=-1, keepdims=True) / (other**2 + 1e-8)
    sideways = difference - share * plain
    # Between nearly parallel predictions the ratio of the sines is that of the angles.
    sine = np.sin(angle)
    factor = np.where(sine > _SMALL_SINE, np.sin(turned) / sine, weight)
    wanted = np.cos(turned) * prompted + factor * sideways
    guided: Latents = ((here - wanted) / time).astype(np.float32)
    return guided


def _norm(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    norm: NDArray[np.float64] = np.sqrt(np.sum(values**2, axis=axis, keepdims=True))
    return np.maximum(norm, 1e-12)
