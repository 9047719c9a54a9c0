"""Ranks and strengths of single layers, by name: peft's `rank_pattern` and `alpha_pattern`.

In peft a pattern is a regular expression, matched against the end of a layer's name behind a dot.
An adapter is a stranger's file, and some expressions take longer than the universe has: those are
told by their form and refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from luthier.errors import AdapterError

LARGEST = 1e9  # rank or alpha
_MOST_PATTERNS, _LONGEST = 4096, 512
# How many ways a matcher may try in all before it gives up: some milliseconds a layer.
_MOST_WAYS, _NAME_LENGTH = 500_000, 60
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|.", re.DOTALL)
_LOOKS_BACK = re.compile(r"\\[1-9gG]")


def is_strength(value: Any) -> bool:
    """Whether a value of a file can be a rank or an alpha."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return bool(number and 0 < value < LARGEST)


class Patterns:
    """The values of single layers.

    Args:
        values: pattern → value, as a configuration holds it; None is none.
        what: the configuration and the field, for sentences.

    Raises:
        AdapterError: it is no object of patterns and numbers, or holds an expression that is no
            valid one, or one that could take forever.
    """

    def __init__(self, values: Any, what: str) -> None:
        if values is not None and not isinstance(values, Mapping):
            raise AdapterError(f"{what} is no object.")
        values = values or {}
        if len(values) > _MOST_PATTERNS:
            raise AdapterError(f"{what} has {len(values)} entries, more than a model has layers.")
        self._values = [
            (_compiled(str(pattern), what), _checked(value, str(pattern), what))
            for pattern, value in values.items()
        ]
        if sum(_ways(str(pattern)) for pattern in values) > _MOST_WAYS:
            raise AdapterError(f"{what} has more expressions than can be tried: write names.")

    def get(self, layer: str, default: float) -> float:
        """The value of a layer: of the first pattern that matches, as peft decides it."""
        return next((v for pattern, v in self._values if pattern.match(layer)), default)


def _checked(value: Any, pattern: str, what: str) -> float:
    if not is_strength(value):
        raise AdapterError(
            f"{what} has {str(value)[:40]!r} for {pattern[:80]!r}: no number above 0."
        )
    return float(value)


def _compiled(pattern: str, what: str) -> re.Pattern[str]:
    refused = f"{what} has the expression {pattern[:80]!r}, "
    if len(pattern) > _LONGEST or _ways(pattern) > _MOST_WAYS:
        raise AdapterError(
            f"{refused}which could take forever: write the names of the layers, or repeat single "
            "characters (.* and the like) three times at most."
        )
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, OverflowError, RecursionError) as error:
        raise AdapterError(f"{refused}which is no valid one: {error}.") from error


def _ways(pattern: str) -> float:
    """A bound for the ways to match a name; infinite where more than single characters repeat, or
    where a match depends on an earlier one or on what follows.
    """
    ways, before, groups = 1.0, "", [1]
    for token in _TOKEN.findall(pattern.replace("(?:", "(")):
        if token in ("*", "+") or (token.startswith("{") and token != "{"):
            if before in (")", "*", "+", "?") or before.startswith("{"):
                return math.inf
            ways *= _NAME_LENGTH
        elif (token == "?" and before == "(") or _LOOKS_BACK.match(
            token
        ):  # look-ahead, flags, conditions, named groups
            return math.inf
        elif token == "?" and before not in ("*", "+") and not before.startswith("{"):
            ways *= 2
        elif token == "(":
            groups.append(1)
        elif token == "|":
            groups[-1] += 1
        elif token == ")" and len(groups) > 1:
            ways *= groups.pop()
        before = token
    return ways * groups[0]
