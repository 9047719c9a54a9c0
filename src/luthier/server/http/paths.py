"""A path that a request names → a file that it may read. Nothing outside the registered roots."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from luthier.server.http.errors import ForbiddenError, NotFoundError, Refusal

AUDIO_SUFFIXES = (
    *(".mp3", ".wav", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".webm", ".mp4", ".wma"),
    *(".aif", ".aiff", ".caf", ".mka", ".w64", ".wv"),
)


def below(root: Path, named: str) -> Path | None:
    """The regular file that `named` (absolute, or relative to `root`) means; None when it is not
    below `root` once links are followed.
    """
    try:
        path = (root / named).resolve(strict=True)
        inside = path.is_relative_to(root.resolve()) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # not there, a null byte, a circle of links
        return None
    return path if inside else None


def recording_named(named: str, roots: Sequence[Path], results: Path) -> Path:
    """The recording that a request names: below a registered root, or a result by its link.

    Raises:
        Refusal: it is not there or not allowed; the answer does not say which of both.
    """
    if named.startswith("/v1/audio?"):
        named = parse_qs(urlsplit(named).query).get("path", [""])[0]
    if ".." in Path(named).parts:
        raise Refusal("path traversal in audio file paths is not allowed.")
    found = next((p for root in (results, *roots) if (p := below(root, named))), None)
    if found is None or found.suffix.lower() not in AUDIO_SUFFIXES:
        raise Refusal(
            "absolute audio file paths are not allowed, except for audio files below the folders "
            "that the server was started with (--audio-root). Upload the file instead."
        )
    return found


def result_file(named: str, results: Path) -> Path:
    """The result that `/v1/audio` is asked for.

    Raises:
        ForbiddenError: it lies elsewhere.
        NotFoundError: it is not there.
    """
    found = below(results, named)
    if found is not None and found.suffix.lower() in AUDIO_SUFFIXES:
        return found
    lexical = Path(named)
    inside = not lexical.is_absolute() or lexical.is_relative_to(results)
    if inside and ".." not in lexical.parts and found is None and "\0" not in named:
        # Not Path.is_symlink, which a name that is too long makes raise.
        if os.path.islink(results / named):
            raise ForbiddenError("only results can be downloaded.")
        raise NotFoundError("there is no such result: it may have expired.")
    raise ForbiddenError("only results can be downloaded.")
