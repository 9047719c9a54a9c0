"""Adapters while playing: opened once and kept, checked against a model, added up.

LoRA and rsLoRA are played; what DoRA and LoKr do to a layer is not a low-rank addition to it.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from luthier.errors import AdapterError
from luthier.music.adapters.file import StoredAdapter, read_adapter
from luthier.music.adapters.layer import LayerWeights
from luthier.music.adapters.names import DOWN, UP
from luthier.music.adapters.place import AdapterFiles, adapter_files
from luthier.music.request_lora import Lora
from luthier.runtime.adaptable import Linear, input_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_KEPT_BYTES = 2**30
_NAMED = 3  # how many layers that do not fit are named


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to one layer: (x·down)·up."""

    down: Array  # (inputs, rank)
    up: Array  # (rank, outputs), the adapter's own scale in it

    @property
    def shape(self) -> tuple[int, int]:
        """Of the layer: inputs, outputs."""
        return self.down.shape[0], self.up.shape[1]


@dataclass(frozen=True)
class AdapterFacts:
    """What is known of an adapter without its matrices.

    Attributes:
        method: LoRA or rsLoRA.
        rank: the largest.
        base_model: what it says that it was trained on; may be empty.
        sha256, config_sha256: of its two files; the second is empty where there is one.
        shapes: (inputs, outputs) by the layer's name in diffusers' denoiser.
    """

    files: AdapterFiles
    name: str
    method: str
    rank: int
    base_model: str
    sha256: str
    config_sha256: str
    shapes: Mapping[str, tuple[int, int]] = field(repr=False)


@dataclass(frozen=True)
class Adapter:
    """An adapter that was checked: whole, finite, of a kind that can be played."""

    facts: AdapterFacts
    layers: Mapping[str, LowRank] = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """Of its matrices in memory."""
        return sum(layer.down.nbytes + layer.up.nbytes for layer in self.layers.values())


def open_adapter(place: Path) -> Adapter:
    """Read an adapter, a folder or a file, for playing.

    Raises:
        AdapterError: it cannot be read, or is of a kind that must be merged instead.
    """
    stored = read_adapter(place, in_memory=True)
    if any(layer.is_kronecker or layer.has_magnitude for layer in stored.layers.values()):
        raise AdapterError(
            f"{place} is a {stored.method} and cannot be played beside a model: LoRA and rsLoRA "
            "can. Turn it into a model with luthier merge, and export that."
        )
    layers = {name: _low_rank(name, layer, place) for name, layer in stored.layers.items()}
    return Adapter(_facts(stored), layers)


def _facts(stored: StoredAdapter) -> AdapterFacts:
    return AdapterFacts(
        stored.files,
        stored.name,
        stored.method,
        stored.rank,
        stored.base_model,
        stored.sha256,
        stored.config_sha256,
        {name: layer.shape for name, layer in stored.layers.items()},
    )


def _low_rank(name: str, layer: LayerWeights, place: Path) -> LowRank:
    import numpy as np

    scale = np.float32(layer.strength.scale)
    with np.errstate(over="ignore"):
        up = layer.tensors[UP].read().T * scale
    if not np.isfinite(up).all():
        raise AdapterError(f"{place} is too strong to be played: {name} overflows.")
    return LowRank(layer.tensors[DOWN].read().T, up)


class Active(NamedTuple):
    """An adapter and its strength; 1 is as trained."""

    adapter: Adapter
    scale: float


class AdapterShelf:
    """Keeps adapters open; over the limit, the one that was used longest ago goes first.

    An adapter whose files have changed since is read again.

    Args:
        limit_bytes: of all matrices together; the one that was used last stays in any case.
    """

    def __init__(self, limit_bytes: int = _KEPT_BYTES) -> None:
        self._limit = limit_bytes
        self._open: OrderedDict[Path, tuple[Stamp, Adapter]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, folder: Path) -> Adapter:
        """The adapter in a folder or file; raises what `open_adapter` raises."""
        with self._lock:
            stamp = stamp_of(folder)
            known = self._open.pop(folder, None)
            adapter = known[1] if known and known[0] == stamp else open_adapter(folder)
            self._open[folder] = stamp, adapter
            while len(self._open) > 1 and self._size_bytes > self._limit:
                self._open.popitem(last=False)
            return adapter

    @property
    def _size_bytes(self) -> int:
        return sum(adapter.size_bytes for _, adapter in self._open.values())

    def chosen(self, asked: Sequence[Lora]) -> tuple[Active, ...]:
        """The adapters of a request; those of strength 0 do nothing and are left out.

        Raises:
            AdapterError: one cannot be opened, or is not the one that the request was made for.
        """
        return tuple(Active(self._the(one), one.scale) for one in asked if one.scale != 0)

    def pinned(self, asked: Sequence[Lora]) -> tuple[Lora, ...]:
        """The adapters with their digests, so that they mean these files and no others.

        Raises what `chosen` raises.
        """
        found = []
        for one in asked:
            facts = self._the(one).facts
            digests = {"sha256": facts.sha256, "config_sha256": facts.config_sha256}
            found.append(one.model_copy(update=digests))
        return tuple(found)

    def _the(self, one: Lora) -> Adapter:
        adapter = self.get(one.path)
        facts = adapter.facts
        if one.sha256 not in ("", facts.sha256) or one.config_sha256 not in (
            "",
            facts.config_sha256,
        ):
            raise AdapterError(
                f"the adapter {one.path.name} has changed since this was asked for: ask again."
            )
        return adapter


Stamp = tuple[tuple[int, int, int], ...]


def stamp_of(place: Path) -> Stamp:
    """What changes when an adapter's files do."""
    try:
        found = [path.stat() for path in adapter_files(place).all]
    except (AdapterError, OSError):
        return ()  # opening it says what is wrong
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


def check_fit(facts: AdapterFacts, linears: Mapping[str, Linear], model: str) -> None:
    """Raise `AdapterError` naming the first layers that the model does not have like that."""
    base = f" ({facts.base_model[:120]})" if facts.base_model else ""
    strange = [name for name in facts.shapes if name not in linears]
    if strange:
        names = ", ".join(name[:120] for name in strange[:_NAMED])
        more = f" and {len(strange) - _NAMED} more" if len(strange) > _NAMED else ""
        raise AdapterError(
            f"the adapter {facts.name} does not fit {model}, which has no linear layer "
            f"{names}{more} ({len(strange)} of its {len(facts.shapes)} layers): it was trained on "
            f"another model{base}."
        )
    for name, (inputs, outputs) in facts.shapes.items():
        linear = linears[name]
        if (inputs, outputs) != (linear.inputs, linear.outputs):
            raise AdapterError(
                f"the adapter {facts.name} does not fit {model}: {name} has {inputs} inputs "
                f"and {outputs} outputs in the adapter, {linear.inputs} and {linear.outputs} in "
                f"the model. It was trained on another model{base}."
            )


def base_note(facts: AdapterFacts, model: str) -> str | None:
    """A sentence where an adapter was not, or not surely, trained on a model of this name."""
    base = re.split(r"[\\/]", facts.base_model.rstrip("\\/"))[-1]
    if base == model:
        return None
    told = f"was trained on {base[:120]}" if base else "does not say what it was trained on"
    return f"the adapter {facts.name} {told}, and is played with {model}."


def feeds_of(
    active: Sequence[Active], linears: Mapping[str, Linear], model: str
) -> dict[str, Array]:
    """The inputs of an adaptable graph, for the layers that change: several adapters are one of all
    their ranks together.

    Args:
        linears: of the graph.
        model: its name, for sentences.

    Raises:
        AdapterError: an adapter does not fit.
    """
    import numpy as np

    for one in active:
        check_fit(one.adapter.facts, linears, model)
    feeds: dict[str, Array] = {}
    for name in sorted({name for one in active for name in one.adapter.layers}):
        parts = [(one.adapter.layers.get(name), one.scale) for one in active]
        down, up = input_names(name)
        feeds[down] = np.concatenate([part.down for part, _ in parts if part], axis=1)
        feeds[up] = np.concatenate([part.up * np.float32(s) for part, s in parts if part])
    return feeds
