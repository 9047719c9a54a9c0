"""What an adapter does to one weight, computed in float32 when it is asked for.

LoRA (Hu et al., 2021) adds alpha/rank · B·A, rsLoRA (Kalajdzievski, 2023) alpha/√rank · B·A; DoRA
(Liu et al., 2024) then gives each row the length that it learned; LoKr (Yeh et al., 2023) adds
alpha/rank · kron(w1, w2). A strength multiplies the scale inside, as peft's `scale_layer` and
diffusers' `set_adapters` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.training.tensor_file import Record

FULL = "full"  # the role of a whole new weight


@dataclass(frozen=True)
class Change:
    """What one adapter does to one weight."""

    tensors: Mapping[str, Record]  # by role: lora_A, lokr_w1 …, or the whole new weight
    factor: float  # what the product counts, strength included

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weight."""
        shapes = {role: record.shape for role, record in self.tensors.items()}
        if FULL in shapes:
            return shapes[FULL]
        if "lora_A" in shapes:
            return shapes["lora_B"][0], shapes["lora_A"][1]
        first, second = (_product_shape(shapes, f"lokr_w{i}") for i in (1, 2))
        return first[0] * second[0], first[1] * second[1]

    def delta(self, weight: Tensor) -> Tensor:
        """What is added to `weight`; both float32."""
        read = {role: record.read().float() for role, record in self.tensors.items()}
        if FULL in read:
            return self.factor * (read[FULL] - weight)
        if "lora_A" not in read:
            return self.factor * torch.kron(_product(read, "lokr_w1"), _product(read, "lokr_w2"))
        added = self.factor * (read["lora_B"] @ read["lora_A"])
        if "lora_magnitude_vector" not in read:
            return added
        direction = added.add_(weight)
        lengths = read["lora_magnitude_vector"] / torch.linalg.norm(direction, dim=1)
        return direction.mul_(lengths[:, None]).sub_(weight)

    @property
    def rank(self) -> int:
        """Of the product; 0 where the matrices are whole."""
        inner = ("lora_A", "lokr_w1_b", "lokr_w2_b")
        return max((self.tensors[r].shape[0] for r in inner if r in self.tensors), default=0)


def _product(read: Mapping[str, Tensor], role: str) -> Tensor:
    return read[role] if role in read else read[f"{role}_a"] @ read[f"{role}_b"]


def _product_shape(shapes: Mapping[str, tuple[int, ...]], role: str) -> tuple[int, ...]:
    if role in shapes:
        return shapes[role]
    return shapes[f"{role}_a"][0], shapes[f"{role}_b"][1]
