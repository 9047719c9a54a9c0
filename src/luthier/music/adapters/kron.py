"""LoKr as peft builds it: which factors are whole, and of which sizes.

peft decides both from the rank and one `decompose_factor` for all layers. What another trainer made
fits where some factor gives its sizes; whole factors then hold its products, and its scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.errors import AdapterError
from luthier.music.adapters.layer import FACTORS, LayerWeights, Strength

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


@dataclass(frozen=True)
class PeftKronecker:
    """A LoKr for peft.

    Attributes:
        settings: `decompose_both` and `decompose_factor`.
        strengths: by layer.
        tensors: by layer, by role.
    """

    settings: Mapping[str, Any]
    strengths: Mapping[str, Strength]
    tensors: Mapping[str, Mapping[str, Array]]


def peft_kronecker(layers: Mapping[str, LayerWeights], name: str) -> PeftKronecker | None:
    """A LoKr as peft builds it; None where the adapter is none.

    Raises:
        AdapterError: peft can build no LoKr of these sizes.
    """
    if not any(layer.is_kronecker for layer in layers.values()):
        return None
    factor = _factor(layers)
    if factor is None:
        raise AdapterError(
            f"{name} is a LoKr whose factors have sizes that peft cannot build (it takes one "
            "decompose_factor for all layers): write it as comfyui or lycoris."
        )
    for both in (False, True):
        if all(_is_as_built(layer, both) for layer in layers.values()):
            strengths = {n: layer.strength for n, layer in layers.items()}
            tensors = {
                n: {role: tensor.read() for role, tensor in layer.tensors.items()}
                for n, layer in layers.items()
            }
            settings = {"decompose_both": both, "decompose_factor": factor}
            return PeftKronecker(settings, strengths, tensors)
    # From this rank on every factor is whole.
    rank = max(size for layer in layers.values() for size in layer.shape)
    whole = {n: {w: layer.factor(w) for w in FACTORS} for n, layer in layers.items()}
    strengths = {n: Strength(rank * layer.strength.scale, rank) for n, layer in layers.items()}
    settings = {"decompose_both": False, "decompose_factor": factor}
    return PeftKronecker(settings, strengths, whole)


def factorisation(size: int, factor: int) -> tuple[int, int]:
    """Two sizes whose product is `size`, the smaller first, as peft and LyCORIS split a layer.

    Args:
        factor: the first one where it divides `size`; else a bound for it, and −1 is none.
    """
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    bound = size if factor == -1 else factor
    pairs = [(m, size // m) for m in range(1, size + 1) if size % m == 0 and m * m <= size]
    return min((pair for pair in pairs if pair[0] <= bound), key=sum)


def _sizes(layer: LayerWeights) -> tuple[int, int]:
    """The first factor's axes: outputs, inputs."""
    if "w1" in layer.tensors:
        rows, columns = layer.tensors["w1"].shape
    else:
        rows, columns = layer.tensors["w1_a"].shape[0], layer.tensors["w1_b"].shape[1]
    return rows, columns


def _factor(layers: Mapping[str, LayerWeights]) -> int | None:
    """The `decompose_factor` that splits every layer as it is split; None where there is none."""
    sizes = {size for layer in layers.values() for size in _sizes(layer)}
    wanted = {
        (layer.shape[1 - axis], size)
        for layer in layers.values()
        for axis, size in enumerate(_sizes(layer))
    }
    for factor in (-1, *sorted(sizes, reverse=True)):
        if all(factorisation(whole, factor)[0] == first for whole, first in wanted):
            return factor
    return None


def _is_as_built(layer: LayerWeights, both: bool) -> bool:
    """Whether peft would have the same factors whole at the layer's rank."""
    (inputs, outputs), rank = layer.shape, layer.strength.rank
    rows, columns = _sizes(layer)
    second = max(outputs // rows, inputs // columns)
    whole_first = not (both and rank < max(rows, columns) / 2)
    whole_second = not rank < second / 2
    return ("w1" in layer.tensors, "w2" in layer.tensors) == (whole_first, whole_second)
