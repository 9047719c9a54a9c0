"""What a graph computes of its weights alone, computed when it is written.

ONNX Runtime would do it each time a session opens, all at once: for ACE-Step's decoder, whose
filters are transformed, in 2.2 GB. Stored, the results are mapped from the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

Read = Callable[[str], NDArray[Any]]


class Folding:
    """Notes the nodes of a graph that need not run, and computes what they make when asked.

    Nothing is kept: memory holds what one result is computed of.

    Args:
        graph: its small constants are read.
        weights: the names of the weights.
        read: gives a weight.
    """

    def __init__(self, graph: Any, weights: Iterable[str], read: Read) -> None:
        self._read = read
        self._weights = frozenset(weights)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def takes(self, node: Any) -> bool:
        """Whether a node computes of weights and constants alone; then it is noted."""
        names = [name for name in node.input if name]
        is_made = any(name in self._weights or name in self._nodes for name in names)
        if not is_made or len(node.output) != 1 or not all(map(self._is_known, names)):
            return False
        self._nodes[node.output[0]] = node
        return True

    def value(self, name: str) -> NDArray[Any]:
        """What a noted node makes."""
        node = self._nodes[name]
        inputs = {given: self._known(given) for given in node.input if given}
        result: NDArray[Any] = ReferenceEvaluator(node).run(None, inputs)[0]
        return result

    def _is_known(self, name: str) -> bool:
        return name in self._weights or name in self._nodes or name in self._constants

    def _known(self, name: str) -> NDArray[Any]:
        if name in self._nodes:
            return self.value(name)
        if name in self._weights:
            return self._read(name)
        constant: NDArray[Any] = numpy_helper.to_array(self._constants[name])
        return constant
