"""Sentences for clients: files by their names, not by where they lie on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def without_folders(text: str, folders: Iterable[Path]) -> str:
    """`text` with what lies below `folders` named from there, and the folders by their names."""
    found = {place for folder in folders for place in (str(folder), str(folder.resolve()))}
    for place in sorted(found, key=len, reverse=True):
        if "/" not in place.strip("/"):  # a mere word, which a sentence may hold as well
            continue
        text = text.replace(f"{place}/", "").replace(place, Path(place).name)
    return text
