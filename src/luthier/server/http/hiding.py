"""Sentences for clients: files by their names, not by where they lie on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path


def without_folders(text: str, folders: Iterable[Path]) -> str:
    """`text` with what lies below `folders` named from there, and the folders by their names."""
    for place in _places(tuple(folders)):
        text = text.replace(f"{place}/", "").replace(place, Path(place).name)
    return text


@lru_cache  # errors come by the hundred where a queue is full
def _places(folders: tuple[Path, ...]) -> tuple[str, ...]:
    """How `folders` are written, the longest first; a mere word may be in a sentence as well."""
    found = {place for folder in folders for place in (str(folder), str(folder.resolve()))}
    found = {place for place in found if "/" in place.strip("/")}
    return tuple(sorted(found, key=len, reverse=True))
