"""The denoiser's graph over a batch: velocities with and without the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.music.playing.pieces import Conditions, Piece
from luthier.music.spec import DENOISER
from luthier.runtime.runner import GraphRunner, Placed

Array = NDArray[np.float32]


def side_by_side(arrays: Sequence[Array], length: int) -> Array:
    """Arrays [1, t, …] → [B, length, …], with zeros behind the shorter ones."""
    shape = (len(arrays), length, *arrays[0].shape[2:])
    joined = np.zeros(shape, dtype=np.float32)
    for row, array in zip(joined, arrays, strict=True):
        row[: array.shape[1]] = array[0]
    return joined


class Denoiser:
    """Velocities of pieces that are denoised together.

    A shorter piece is padded and masked, so that it comes out as it would alone. Graphs whose
    numbers depend on the whole batch (activations in 8 bits) run one piece at a time instead.

    Args:
        graphs: with the denoiser.
        pieces: what to denoise.
        null_condition: [1, 1, D], the condition of no prompt.
        patch_size: latent frames a token; a piece is padded with zeros to whole tokens.
        adapters: what the linear layers add, on the graph's device; None for nothing.
    """

    def __init__(
        self,
        graphs: GraphRunner,
        pieces: Sequence[Piece],
        null_condition: Array,
        patch_size: int,
        adapters: Placed | None = None,
    ) -> None:
        rows = range(len(pieces))
        together = graphs.is_batch_independent(DENOISER)
        groups = [tuple(rows)] if together else [(row,) for row in rows]
        self._groups = [
            _Group(
                graphs, adapters, group, [pieces[row] for row in group], null_condition, patch_size
            )
            for group in groups
        ]

    def __call__(
        self, latents: Array, time: float, *, late: bool, guided: bool
    ) -> tuple[Array, Array]:
        """Velocities [B, T, C] with and without the prompt; both are the same unless `guided`."""
        conditional = np.zeros_like(latents)
        unconditional = np.zeros_like(latents) if guided else conditional
        for group in self._groups:
            rows = np.array(group.rows)
            velocity = group.velocity(latents[rows, : group.frames], time, late, guided)
            conditional[rows, : group.frames] = velocity[: len(rows)]
            if guided:
                unconditional[rows, : group.frames] = velocity[len(rows) :]
        return conditional, unconditional


@dataclass
class _Bound:
    late: bool
    guided: bool
    run: Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]


class _Group:
    def __init__(
        self,
        graphs: GraphRunner,
        adapters: Placed | None,
        rows: tuple[int, ...],
        pieces: Sequence[Piece],
        null_condition: Array,
        patch_size: int,
    ) -> None:
        self.rows = rows
        self._graphs, self._adapters = graphs, adapters
        self._pieces, self._null = pieces, null_condition
        lengths = [piece.noise.shape[1] for piece in pieces]
        self.frames = max(lengths)
        self._padded = -(-self.frames // patch_size) * patch_size
        self._mask = side_by_side([np.ones((1, n), np.float32) for n in lengths], self._padded)
        self._bound: _Bound | None = None

    def velocity(self, latents: Array, time: float, late: bool, guided: bool) -> Array:
        """[B, T, C], or with `guided` those of the prompts, then those of none: [2B, T, C]."""
        bound = self._bound
        if bound is None or (bound.late, bound.guided) != (late, guided):
            bound = self._bound = _Bound(late, guided, self._bind(late, guided))
        copies = 2 if guided else 1
        padding = ((0, 0), (0, self._padded - self.frames), (0, 0))
        hidden = np.concatenate([np.pad(latents, padding)] * copies)
        times = np.full(len(hidden), time, dtype=np.float32)
        feeds = {"hidden_states": hidden, "timestep": times, "timestep_r": times}
        velocity: Array = bound.run(feeds)["vt"]
        # What is predicted for padding must not count in a norm over time.
        mask = np.concatenate([self._mask] * copies)[:, : self.frames, None]
        return np.where(mask > 0, velocity[:, : self.frames], np.float32(0))

    def _bind(
        self, late: bool, guided: bool
    ) -> Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]:
        found = [piece.later if late and piece.later else piece.first for piece in self._pieces]
        constants = self._joined(found)
        if guided:
            states = constants["encoder_hidden_states"]
            null = np.broadcast_to(self._null, states.shape)
            constants = {name: np.concatenate([v, v]) for name, v in constants.items()}
            constants["encoder_hidden_states"] = np.concatenate([states, null])
        return self._graphs.bind(DENOISER, constants, self._adapters)

    def _joined(self, conditions: Sequence[Conditions]) -> dict[str, Array]:
        tokens = max(c.encoder_hidden_states.shape[1] for c in conditions)
        return {
            "encoder_hidden_states": side_by_side(
                [c.encoder_hidden_states for c in conditions], tokens
            ),
            "encoder_attention_mask": side_by_side(
                [c.encoder_attention_mask for c in conditions], tokens
            ),
            "context_latents": side_by_side([c.context_latents for c in conditions], self._padded),
            "attention_mask": self._mask,
        }
