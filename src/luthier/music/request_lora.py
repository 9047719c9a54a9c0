"""The adapters that a request names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MOST_ADAPTERS = 8


class Lora(BaseModel):
    """One adapter of a request.

    Attributes:
        path: its folder or file.
        scale: how strong it is; 1 is as trained, 0 is not at all.
        sha256, config_sha256: of its files, where the request is for exactly these; the second is
            empty where there is one file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: Path
    scale: float = Field(default=1.0, ge=-10, le=10)
    sha256: str = ""
    config_sha256: str = ""


def lora_values(value: Any) -> Any:
    """Adapters from one or a list of: a path, `PATH:SCALE`, or an object with path and scale."""
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(_one(item) for item in items if item not in (None, ""))


def _one(item: Any) -> Any:
    if isinstance(item, Lora | Mapping):
        return item
    path, scale = lora_from_text(str(item))
    return {"path": path, "scale": scale}


def lora_from_text(text: str) -> tuple[Path, float]:
    """PATH, or PATH:SCALE; what exists under the whole name is meant by it.

    Raises:
        ValueError: the scale is not a finite number.
    """
    name, colon, number = text.rpartition(":")
    if not (colon and name) or _exists(text):
        return Path(text).expanduser(), 1.0
    try:
        scale = float(number)
    except ValueError:
        return Path(text).expanduser(), 1.0
    if not math.isfinite(scale):
        raise ValueError(f"the scale in {text!r} must be a number, for example {name}:0.5")
    return Path(name).expanduser(), scale


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long a name, a null byte, nobody's home
        return False
