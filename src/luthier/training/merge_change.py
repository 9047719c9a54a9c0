"""What an adapter does to one weight, computed in float32 when it is asked for.

LoRA (Hu et al., 2021) adds alpha/rank · B·A, rsLoRA (Kalajdzievski, 2023) alpha/√rank · B·A; LoKr
(Yeh et al., 2023) adds alpha/rank · kron(w1, w2); DoRA (Liu et al., 2024) then gives each row, in
early LyCORIS each column, the length that it learned. A strength multiplies the scale inside, as
peft's `scale_layer` and diffusers' `set_adapters` do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from luthier.music.adapters.layer import LayerWeights
from luthier.training.tensor_file import Record


class Change(Protocol):
    """What one adapter does to one weight."""

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weight."""

    @property
    def rank(self) -> int:
        """Of the product; 0 where the matrices are whole."""

    def delta(self, weight: Tensor) -> Tensor:
        """What is added to `weight`; both float32."""


@dataclass(frozen=True)
class WholeWeight:
    """A weight that was trained as a whole."""

    record: Record
    strength: float
    rank = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weight."""
        return self.record.shape

    def delta(self, weight: Tensor) -> Tensor:
        """What is added to `weight`; both float32."""
        return self.strength * (self.record.read().float() - weight)


@dataclass(frozen=True)
class AdaptedLayer:
    """The matrices of an adapter for a linear layer."""

    layer: LayerWeights
    strength: float

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weight."""
        inputs, outputs = self.layer.shape
        return outputs, inputs

    @property
    def rank(self) -> int:
        """Of the product; 0 where the matrices are whole."""
        return self.layer.rank

    @property
    def factor(self) -> float:
        """What the product counts, strength included."""
        return self.strength * self.layer.strength.scale

    def delta(self, weight: Tensor) -> Tensor:
        """What is added to `weight`; both float32."""
        read = {role: torch.from_numpy(t.read()) for role, t in self.layer.tensors.items()}
        if self.layer.is_kronecker:
            factors = (torch.from_numpy(self.layer.factor(name)) for name in ("w1", "w2"))
            added = self.factor * torch.kron(*factors)
        else:
            added = self.factor * (read["up"] @ read["down"])
        if not self.layer.has_magnitude:
            return added
        direction = added.add_(weight)
        axis = 0 if self.layer.by_column else 1
        lengths = torch.linalg.norm(direction, dim=axis, keepdim=True)
        wanted = read["magnitude"].reshape(lengths.shape)
        return direction.mul_(wanted / lengths).sub_(weight)
