"""Adapters while playing: opened once and kept, checked against a model, added up."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from luthier.music.adapter_file import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    Adapter,
    AdapterError,
    AdapterFacts,
    open_adapter,
)
from luthier.music.request_lora import Lora
from luthier.runtime.adaptable import Linear, input_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_KEPT_BYTES = 2**30


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
        """The adapter in `folder`; raises what `open_adapter` raises."""
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


def stamp_of(folder: Path) -> Stamp:
    """What changes when an adapter's files do."""
    try:
        found = [(folder / name).stat() for name in (CONFIG_NAME, WEIGHTS_NAME)]
    except OSError:
        return ()  # opening it says what is wrong
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


def check_fit(facts: AdapterFacts, linears: Mapping[str, Linear], model: str) -> None:
    """Raise `AdapterError` naming the first layer that the model does not have like that."""
    base = f" ({facts.base_model[:120]})" if facts.base_model else ""
    for name, (inputs, outputs) in facts.shapes.items():
        linear = linears.get(name)
        if linear is None:
            raise AdapterError(
                f"the adapter {facts.folder.name} does not fit {model}, which has no linear layer "
                f"{name[:120]}: it was trained on another model{base}."
            )
        if (inputs, outputs) != (linear.inputs, linear.outputs):
            raise AdapterError(
                f"the adapter {facts.folder.name} does not fit {model}: {name} has {inputs} inputs "
                f"and {outputs} outputs in the adapter, {linear.inputs} and {linear.outputs} in "
                f"the model. It was trained on another model{base}."
            )


def base_note(facts: AdapterFacts, model: str) -> str | None:
    """A sentence where an adapter was not, or not surely, trained on a model of this name."""
    base = re.split(r"[\\/]", facts.base_model.rstrip("\\/"))[-1]
    if base == model:
        return None
    told = f"was trained on {base[:120]}" if base else "does not say what it was trained on"
    return f"the adapter {facts.folder.name} {told}, and is played with {model}."


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
