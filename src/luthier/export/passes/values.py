"""The values of a graph: what makes them, what reads them, which are constant."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from onnx import helper, numpy_helper


class Values:
    """Looks values up by their names."""

    def __init__(self, graph: Any) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._users: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._users[name].append(node)

    def maker(self, name: str, kind: str) -> Any:
        """The node that makes a value, when it is of a kind; else None."""
        node = self._makers.get(name)
        return node if node is not None and node.op_type == kind else None

    def users(self, name: str) -> list[Any]:
        """The nodes that read a value."""
        return self._users.get(name, [])

    def user(self, name: str, kind: str) -> Any:
        """The only node that reads a value, when it is of a kind; else None."""
        users = self.users(name)
        return users[0] if len(users) == 1 and users[0].op_type == kind else None

    def numbers(self, name: str) -> list[float] | None:
        """The elements of a constant in a row; None of any other value."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor).reshape(-1).tolist()


def attribute(node: Any, name: str) -> Any:
    """An attribute of a node, or None."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def names_read(node: Any) -> set[str]:
    """What a node reads, and what its bodies read from outside."""
    names = set(node.input)
    for given in node.attribute:
        names.update(*(names_read(inner) for inner in given.g.node))
    return names
