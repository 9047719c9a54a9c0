"""Does a graph file compute what the torch model does? At other lengths than it was traced with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from luthier.audio.spectrum import magnitudes
from luthier.errors import ExportError
from luthier.export.precision import Precision
from luthier.music.torch.graphs import Graph
from luthier.runtime.session import open_session

MAX_RMSE, MAX_ABS = 5e-4, 1e-1
# Below float32 the yardstick is the signal itself.
_MIN_SNR_DB: dict[Precision, float] = {"fp16": 35.0, "int8": 20.0, "int4": 10.0}
# Where phase is estimated, a difference in the last bits can settle on another phase that fits as
# well: magnitudes are compared, as closely as such an estimate agrees with itself.
_MIN_FREE_SNR_DB: dict[Precision, float] = {"fp32": 35.0, "fp16": 10.0, "int8": 10.0, "int4": 10.0}
_MAX_CODE_CHANGES = 0.05


class ParityError(ExportError):
    """A graph differs from the model by more than is allowed."""

    exit_code = 3


@dataclass(frozen=True)
class Parity:
    """The worst difference over a graph's outputs."""

    rmse: float
    max_abs: float
    snr_db: float
    changed_codes: float  # share of integers and booleans that differ

    def as_dict(self) -> dict[str, float]:
        """Rounded for a manifest."""
        return {key: float(f"{value:.4g}") for key, value in asdict(self).items()}


def compare(graph: Graph, path: Path) -> Parity:
    """Run the graph file and the torch module on the graph's example inputs."""
    with torch.no_grad():
        expected = graph.module(**graph.inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    session = open_session(path)
    feeds = {value.name: graph.inputs[value.name].numpy() for value in session.get_inputs()}
    found = session.run(list(graph.outputs), feeds)
    worst = Parity(0.0, 0.0, 200.0, 0.0)
    outputs = [one.numpy() for one in expected]
    alike = _same_codes(outputs, found)
    for one, other in zip(outputs, found, strict=True):
        if np.issubdtype(one.dtype, np.floating) and alike is not None:
            one, other = one[alike], other[alike]
        if one.size:
            worst = _worse(worst, _difference(one, other, magnitudes_only=graph.free_phase))
    return worst


def _same_codes(
    expected: Sequence[NDArray[np.generic]], found: Sequence[NDArray[np.generic]]
) -> NDArray[np.bool_] | None:
    """Where both chose the same codes [B, T]; None when a graph has no codes.

    Another code is another vector: that is counted as a change, once.
    """
    for one, other in zip(expected, found, strict=True):
        if np.issubdtype(one.dtype, np.integer):
            same: NDArray[np.bool_] = np.all(one == other, axis=-1)
            return same
    return None


def check(graph: Graph, parity: Parity, precision: Precision) -> None:
    """Raise `ParityError` when the difference is more than the precision allows."""
    if precision == "fp32" and not graph.free_phase:
        within = parity.rmse <= MAX_RMSE and parity.max_abs <= MAX_ABS
        allowed = f"rmse {MAX_RMSE} and maximum {MAX_ABS}"
    else:
        least = (_MIN_FREE_SNR_DB if graph.free_phase else _MIN_SNR_DB)[precision]
        within = parity.snr_db >= least
        allowed = f"at least {least:g} dB"
    if not within or parity.changed_codes > _MAX_CODE_CHANGES:
        raise ParityError(
            f"the graph {graph.name} in {precision} differs from the model: rmse {parity.rmse:.2g}"
            f", maximum {parity.max_abs:.2g}, {parity.snr_db:.1f} dB, {parity.changed_codes:.1%} "
            f"of the codes changed; allowed: {allowed}. Choose a higher precision."
        )


def _difference(
    expected: NDArray[np.generic], found: NDArray[np.generic], *, magnitudes_only: bool
) -> Parity:
    if not np.issubdtype(expected.dtype, np.floating):
        return Parity(0.0, 0.0, 200.0, float(np.mean(expected != found)))
    one, other = expected.astype(np.float64), found.astype(np.float64)
    error = other - one
    rmse, largest = float(np.sqrt(np.mean(error**2))), float(np.max(np.abs(error)))
    if magnitudes_only:
        one, other = _magnitudes(one), _magnitudes(other)
        error = other - one
    noise, signal = float(np.mean(error**2)), float(np.mean(one**2))
    snr = 10 * np.log10(signal / noise) if noise > 0 and signal > 0 else 200.0
    return Parity(rmse, largest, float(snr), 0.0)


def _magnitudes(audio: NDArray[np.float64]) -> NDArray[np.float64]:
    mono = audio.reshape(-1, audio.shape[-1])
    return np.stack([magnitudes(row.astype(np.float32), 512, 128) for row in mono]).astype(
        np.float64
    )


def _worse(one: Parity, other: Parity) -> Parity:
    return Parity(
        max(one.rmse, other.rmse),
        max(one.max_abs, other.max_abs),
        min(one.snr_db, other.snr_db),
        max(one.changed_codes, other.changed_codes),
    )
