"""JSON from a client, as strict as JSON is: no NaN, no half letters, no depth without end."""

from __future__ import annotations

import json
from typing import Any

from luthier.server.http.errors import Refusal

_DEEPEST = 64
_MOST_VALUES = 200_000  # an empty list takes 2 bytes of a body, and 60 in memory


def strict_json(text: str | bytes, what: str) -> Any:
    """What `text` says; raise `Refusal` naming `what` where it is no JSON, or beyond all reason."""
    groups = _marks(text, "[") + _marks(text, "{")
    if groups + _marks(text, ",") > _MOST_VALUES:
        raise Refusal(f"{what} holds more than {_MOST_VALUES} values: send fewer.")
    try:
        found = json.loads(text, parse_constant=_no_number)
        if groups > _DEEPEST and _is_deep(found):
            raise ValueError(f"it is nested deeper than {_DEEPEST}")
        # A lone surrogate and 1e400 can be written in JSON, but not be stored or answered.
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{what} is no JSON: {_ascii(error)}.") from error
    return found


def _marks(text: str | bytes, mark: str) -> int:
    return text.count(mark) if isinstance(text, str) else text.count(mark.encode())


def _is_deep(found: Any) -> bool:
    level = [found]
    for _ in range(_DEEPEST + 1):
        groups = [value for value in level if isinstance(value, dict | list)]
        level = [v for g in groups for v in (g.values() if isinstance(g, dict) else g)]
    return bool(level)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _ascii(error: Exception) -> str:
    return str(error).encode("ascii", "backslashreplace").decode()[:200]
