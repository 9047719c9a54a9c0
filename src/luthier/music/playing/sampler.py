"""From noise to latents: flow matching by Euler or Heun steps, or as an SDE, with guidance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from luthier.errors import ModelError
from luthier.music.playing.guidance import classifier_free, guide_named
from luthier.music.playing.onnx_denoiser import Denoiser, side_by_side
from luthier.music.playing.pieces import Piece, Plan
from luthier.progress import Display
from luthier.runtime.cancel import Cancel, stop_if_asked

Array = NDArray[np.float32]


def sample(
    denoiser: Denoiser,
    plan: Plan,
    pieces: Sequence[Piece],
    display: Display,
    cancel: Cancel | None = None,
) -> list[Array]:
    """Integrate dx/dt = v from the first time to 0. Returns the latents [1, T, C] of each piece.

    Raises:
        ModelError: when a step gives values that are no numbers.
        CancelledError: when `cancel` asks to stop; looked at before every step.
    """
    run = _Run(denoiser, plan, pieces)
    ends = (*plan.times[1:], 0.0)
    with display.task("denoise", total=len(plan.times)) as task:
        for index, (now, then) in enumerate(zip(plan.times, ends, strict=True)):
            stop_if_asked(cancel)
            run.step(index, now, then)
            task.advance()
    return run.latents()


class _Run:
    """The state of a batch between steps: latents `x` [B, T, C], 0 where a piece is padded."""

    def __init__(self, denoiser: Denoiser, plan: Plan, pieces: Sequence[Piece]) -> None:
        self.denoiser, self.plan, self.pieces = denoiser, plan, pieces
        self.frames = max(piece.noise.shape[1] for piece in pieces)
        self.x = self._joined([self._start(piece) for piece in pieces])
        self.guide = guide_named(plan.guidance_method)
        self.before: Array | None = None  # the velocity of the step before

    def step(self, index: int, now: float, then: float) -> None:
        """Go from time `now` to `then`."""
        late = self.plan.later_from is not None and index >= self.plan.later_from
        velocity = self._steady(self._guided(self.x, now, late), self.x, self.before)
        if self.plan.infer_method == "sde":
            music = self.x - velocity * np.float32(now)
            self.x = music if then == 0 else self._renoised(music, then)
        else:
            # At the end there is no time left to correct at: the original takes an Euler step too.
            if self.plan.sampler_mode == "heun" and then > 0:
                velocity = self._corrected(velocity, now, then, late)
            self.x = self.x - velocity * np.float32(now - then)
        self.before = velocity
        if not np.all(np.isfinite(self.x)):
            raise ModelError(
                f"the denoiser made values that are no numbers (NaN) in step {index + 1} of "
                f"{len(self.plan.times)}: its graph is damaged or its precision too low."
            )
        if index < self.plan.held_steps:
            self._hold(then)

    def latents(self) -> list[Array]:
        """The latents of each piece, a repaint blended into its source."""
        found = []
        for row, piece in zip(self.x, self.pieces, strict=True):
            latents = row[None, : piece.noise.shape[1]]
            if piece.blend is not None and piece.blend.weights is not None:
                weights = piece.blend.weights
                latents = weights * latents + (1 - weights) * piece.blend.source
            found.append(np.ascontiguousarray(latents))
        return found

    def _start(self, piece: Piece) -> Array:
        if not self.plan.starts_from_source or piece.source is None:
            return piece.noise
        return _noised(piece.source, piece.noise, self.plan.times[0])

    def _joined(self, arrays: Sequence[Array]) -> Array:
        return side_by_side(arrays, self.frames)

    def _guided(self, x: Array, time: float, late: bool, *, corrects: bool = False) -> Array:
        scale = self.plan.scale_at(time)
        conditional, unconditional = self.denoiser(x, time, late=late, guided=scale > 1)
        if scale <= 1:
            return conditional
        # As in ACE-Step, a corrector leaves APG's momentum alone.
        if corrects and self.plan.guidance_method == "apg":
            return classifier_free(conditional, unconditional, scale)
        return self.guide(conditional, unconditional, scale, x, time)

    def _corrected(self, velocity: Array, now: float, then: float, late: bool) -> Array:
        """The mean of the velocities at both ends of a step that ends above 0 (Heun)."""
        ahead = self.x - velocity * np.float32(now - then)
        there = self._guided(ahead, then, late, corrects=True)
        there = self._steady(there, ahead, velocity)
        mean: Array = np.float32(0.5) * (velocity + there)
        return mean

    def _steady(self, velocity: Array, x: Array, before: Array | None) -> Array:
        """The velocity, limited in norm and mixed with the one before, where the plan says so."""
        limit, kept = self.plan.velocity_limit, np.float32(self.plan.velocity_kept)
        if limit > 0:
            norm, most = _norm(velocity), limit * (_norm(x) + 1e-10)
            velocity = velocity * np.minimum(1.0, most / (norm + 1e-10)).astype(np.float32)
        if kept > 0 and before is not None:
            velocity = (1 - kept) * velocity + kept * before
        return velocity

    def _renoised(self, music: Array, time: float) -> Array:
        fresh = [
            piece.draw.standard_normal(piece.noise.shape, dtype=np.float32) for piece in self.pieces
        ]
        return _noised(music, self._joined(fresh), time)

    def _hold(self, time: float) -> None:
        """Outside a repaint's windows, the source with as much noise as belongs to `time`."""
        for row, piece in zip(self.x, self.pieces, strict=True):
            if piece.blend is not None:
                frames = slice(piece.noise.shape[1])
                source = _noised(piece.blend.source, piece.noise, time)[0]
                row[frames] = np.where(piece.blend.inside[0] > 0, row[frames], source)


def _noised(music: Array, noise: Array, time: float) -> Array:
    mixed: Array = np.float32(time) * noise + np.float32(1.0 - time) * music
    return mixed


def _norm(values: Array) -> NDArray[np.float64]:
    """Of each piece: [B, T, C] → [B, 1, 1]."""
    norm: NDArray[np.float64] = np.sqrt(
        np.sum(values.astype(np.float64) ** 2, axis=(1, 2), keepdims=True)
    )
    return norm
