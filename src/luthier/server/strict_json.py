"""JSON from a client, as strict as JSON is: no NaN, no half letters, no depth without end."""

from __future__ import annotations

import json
from typing import Any

from luthier.server.refusals import Refusal


def strict_json(text: str | bytes, what: str) -> Any:
    """What `text` says; raise `Refusal` naming `what` where it is no JSON."""
    try:
        found = json.loads(text, parse_constant=_no_number)
        # A lone surrogate can be written in JSON, but not be stored or answered.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{what} is no JSON: {_ascii(error)}.") from error
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _ascii(error: Exception) -> str:
    return str(error).encode("ascii", "backslashreplace").decode()[:200]
