"""What an adapter holds for one linear layer: its matrices, checked, and how strong they are.

LoRA (Hu et al., 2021) adds alpha/rank · up·down, rsLoRA (Kalajdzievski, 2023) alpha/√rank; LoKr
(Yeh et al., 2023) adds alpha/rank · kron(w1, w2), each factor whole or itself a product; DoRA (Liu
et al., 2024) then gives each row, in early LyCORIS each column, the length that it learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.errors import AdapterError
from luthier.music.adapters.names import DOWN, KRONECKER, MAGNITUDE, UP
from luthier.runtime.tensors import Numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

FACTORS = ("w1", "w2")


@dataclass(frozen=True)
class Strength:
    """How much a product counts: alpha/rank, or alpha/√rank."""

    alpha: float
    rank: float
    by_root: bool = False

    @property
    def scale(self) -> float:
        """What the product is multiplied with."""
        return self.alpha / (math.sqrt(self.rank) if self.by_root else self.rank)

    @property
    def plain_alpha(self) -> float:
        """The alpha that means the same where the scale is alpha/rank."""
        return self.alpha * math.sqrt(self.rank) if self.by_root else self.alpha


@dataclass(frozen=True)
class LayerWeights:
    """An adapter's matrices for one layer.

    Attributes:
        tensors: by role: `down` (rank, inputs) and `up` (outputs, rank); or `w1` and `w2`, each
            whole or as `_a` and `_b`; `magnitude` with DoRA.
        by_column: the magnitudes are of the inputs' columns, not of the outputs' rows.
    """

    tensors: Mapping[str, Numbers]
    strength: Strength
    by_column: bool = False

    @property
    def is_kronecker(self) -> bool:
        """Whether it is LoKr."""
        return DOWN not in self.tensors

    @property
    def has_magnitude(self) -> bool:
        """Whether it is DoRA."""
        return MAGNITUDE in self.tensors

    @property
    def rank(self) -> int:
        """Of the product; 0 where both factors are whole."""
        return product_rank({role: value.shape for role, value in self.tensors.items()})

    @property
    def shape(self) -> tuple[int, int]:
        """Of the layer: inputs, outputs."""
        shapes = {role: value.shape for role, value in self.tensors.items()}
        if not self.is_kronecker:
            return shapes[DOWN][1], shapes[UP][0]
        (a, b), (c, d) = (_factor_shape(shapes, name) for name in FACTORS)
        return b * d, a * c

    def factor(self, name: str) -> Array:
        """`w1` or `w2` as a whole, float32."""
        if name in self.tensors:
            return self.tensors[name].read()
        product: Array = self.tensors[f"{name}_a"].read() @ self.tensors[f"{name}_b"].read()
        return product

    def magnitudes(self) -> Array:
        """One length a row (or column), float32."""
        return self.tensors[MAGNITUDE].read().reshape(-1)

    def product(self) -> Array:
        """What the matrices add to the weight (outputs, inputs), before any magnitude; float32."""
        import numpy as np

        if self.is_kronecker:
            added = np.kron(self.factor("w1"), self.factor("w2"))
        else:
            added = self.tensors[UP].read() @ self.tensors[DOWN].read()
        scaled: Array = np.float32(self.strength.scale) * added.astype(np.float32)
        return scaled


def product_rank(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The rank of a layer's product; 0 of whole factors."""
    inner = (DOWN, "w2_b", "w1_b")  # of two products the second counts, as in LyCORIS
    return next((shapes[role][0] for role in inner if shapes.get(role)), 0)


def check_layer(name: str, tensors: Mapping[str, Numbers], spelled: Mapping[str, str]) -> bool:
    """Check that a layer's matrices are all there and go together.

    Args:
        name: what the layer is called in the file.
        tensors: by role.
        spelled: the tensors' names in the file, by role.

    Returns:
        Whether the magnitudes are of columns.

    Raises:
        AdapterError: one is missing, or the shapes do not fit.
    """
    roles = tensors.keys()
    if "t2" in roles:
        raise AdapterError(
            f"{spelled['t2'][:120]} belongs to a convolution: only those of linear layers can be "
            "read."
        )
    low, kron = {DOWN, UP} & roles, set(KRONECKER) & roles
    if bool(low) == bool(kron):
        both = "two kinds of matrices" if low else "no matrices"
        raise AdapterError(f"the layer {name[:120]} has {both}: {told(tensors, spelled)}.")
    lacking = {DOWN, UP} - roles if low else _lacking_factors(kron)
    if lacking:
        missing = _named(min(lacking), spelled)
        raise AdapterError(
            f"the matrices of {name[:120]} do not go together: {missing} is missing; there is "
            f"{told(tensors, spelled)}. The file is incomplete: get it again."
        )
    shapes = {role: tensors[role].shape for role in (low or kron)}
    pairs = [(shapes[UP], shapes[DOWN])] if low else _inner_pairs(shapes)
    are_matrices = all(len(shape) == 2 and 0 not in shape for shape in shapes.values())
    if not are_matrices or any(a[1] != b[0] for a, b in pairs):
        raise AdapterError(
            f"the matrices of {name[:120]} do not go together: {told(tensors, spelled)}."
        )
    return MAGNITUDE in roles and _is_by_column(name, tensors)


def told(tensors: Mapping[str, Numbers], spelled: Mapping[str, str]) -> str:
    """The tensors with their shapes, in the file's own words."""
    words = {role: spelled[role].removesuffix(".weight").rsplit(".", 1)[-1] for role in tensors}
    return ", ".join(f"{words[role]} {tensors[role].shape}" for role in sorted(tensors))


def _named(role: str, spelled: Mapping[str, str]) -> str:
    """What a tensor that is not there would be called, after one that is."""
    swaps = (("lora_A", "lora_B"), ("lora_down", "lora_up"), ("lora.down", "lora.up"))
    for name in spelled.values():
        for down, up in swaps:
            old, new = (up, down) if role == DOWN else (down, up)
            if f".{old}" in name or f"_{old}" in name:
                return name.replace(old, new)[:160]
        if ".lokr_" in name:
            return f"{name.split('.lokr_')[0]}.lokr_{role}"[:160]
    return f"{role} of {min(spelled.values(), default='a layer')[:120]}"


def _lacking_factors(found: set[str]) -> set[str]:
    lacking: set[str] = set()
    for name in FACTORS:
        halves = {f"{name}_a", f"{name}_b"}
        if name not in found:
            lacking |= (halves - found) if halves & found else {name}
    return lacking


def _inner_pairs(
    shapes: Mapping[str, tuple[int, ...]],
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    halves = [(f"{name}_a", f"{name}_b") for name in FACTORS]
    return [(shapes[a], shapes[b]) for a, b in halves if a in shapes and b in shapes]


def _factor_shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, int]:
    if name in shapes:
        return shapes[name][0], shapes[name][1]
    return shapes[f"{name}_a"][0], shapes[f"{name}_b"][1]


def _is_by_column(name: str, tensors: Mapping[str, Numbers]) -> bool:
    shape = tensors[MAGNITUDE].shape
    inputs, outputs = LayerWeights(tensors, Strength(1, 1)).shape
    if shape in ((outputs,), (outputs, 1)):
        return False
    if shape == (1, inputs):
        return True
    raise AdapterError(
        f"the magnitudes of {name[:120]} have the shape {shape}: they must be one a row, "
        f"({outputs},) or ({outputs}, 1), or one a column, (1, {inputs})."
    )
