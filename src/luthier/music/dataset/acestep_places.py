"""Where the recordings of an ACE-Step data set file lie, and whether they may lie there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from luthier.errors import PathError
from luthier.music.dataset.acestep_json import AceStepFile, sample_facts

_SHOWN = 5


def require_below(file: AceStepFile, folders: Sequence[Path]) -> None:
    """Refuse recordings that lie elsewhere, once links are followed; no folders allow all places.

    Raises:
        PathError: some do; the first of them are named.
    """
    allowed = [folder.resolve() for folder in folders]
    named = [sample_facts(sample, file)["filename"] for sample in file.samples]
    strange = [name for name in named if not any(map(Path(name).is_relative_to, allowed))]
    if allowed and strange:
        names = ", ".join(strange[:_SHOWN]) + (" …" if len(strange) > _SHOWN else "")
        raise PathError(f"{len(strange)} recordings lie outside the folders allowed: {names}")
