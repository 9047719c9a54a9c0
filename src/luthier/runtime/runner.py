"""What runs the graphs of a model: ONNX Runtime (`session.Graphs`), or torch before the export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import onnxruntime
from numpy.typing import NDArray

from luthier.runtime.adaptable import Linear

Tensors = dict[str, NDArray[Any]]
Feeds = Mapping[str, NDArray[Any]]
Placed = Mapping[str, onnxruntime.OrtValue]


class GraphRunner(Protocol):
    """Graphs by their contract names. `session.Graphs` says what each method does."""

    @property
    def workers(self) -> int:
        """How many threads of the caller run a graph well at a time (`run` with `is_part`)."""

    def __contains__(self, name: str) -> bool: ...

    def run(self, name: str, feeds: Feeds, *, is_part: bool = False) -> Tensors:
        """Run a graph; returns its outputs by name."""

    def linears(self, name: str) -> Mapping[str, Linear]:
        """The linear layers of a graph that an adapter can add to, by name."""

    def placed(self, name: str, adapters: Feeds) -> Placed:
        """The matrices of adapters, on the device where the graph runs that takes them."""

    def bind(
        self, name: str, constants: Feeds, adapters: Placed | None = None
    ) -> Callable[[Feeds], Tensors]:
        """A graph for many runs with the same `constants`."""

    def release(self, *names: str) -> None:
        """Free what graphs hold (all of them without names)."""

    def is_batch_independent(self, name: str) -> bool:
        """Whether an item's result is the same in any batch."""
