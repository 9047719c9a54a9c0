"""The known name that a misspelt one is most like."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(text: str, known: Iterable[str]) -> str:
    """The most similar of the `known` names."""
    names = sorted(known)
    upper = {name.upper(): name for name in names}
    return upper[difflib.get_close_matches(text.upper(), upper, n=1, cutoff=0.0)[0]]
