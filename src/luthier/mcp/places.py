"""Which recordings tools may read, and where what they make goes."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from luthier.errors import RequestError
from luthier.server.http.paths import AUDIO_SUFFIXES, below

_LONGEST_NAME = 40


class Places:
    """Recordings are read below `root` and `out` only; everything is written into `out`."""

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self.out = root.resolve(), out.resolve()

    def recording(self, named: str) -> Path:
        """The recording that a tool is asked to work on: absolute, or relative to the root.

        Raises:
            RequestError: it is not there, lies elsewhere (links are followed), or is no recording.
        """
        for folder in (self.root, self.out):
            found = below(folder, named)
            if found is not None and found.suffix.lower() in AUDIO_SUFFIXES:
                return found
        raise RequestError(
            f"{named[:200]!r} is no recording below {self.root}: name an audio file there, or one "
            "that a tool has written."
        )

    def new(self, prompt: str) -> Path:
        """A path for what is made: from the prompt's words, and never one that is taken."""
        words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:_LONGEST_NAME].strip("-")
        return self.out / f"{words or 'music'}-{uuid.uuid4().hex[:8]}.wav"
