"""A request and its options → what is sent: fields by their own names, recordings as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from luthier.errors import PathError
from luthier.music.request import MusicRequest
from luthier.music.task_options import TaskOptions

RESULT_LINK = "/v1/audio?"
# field of a request → part of a form
_PARTS = {"source_audio": "src_audio", "reference_audio": "reference_audio"}


class Sent(NamedTuple):
    """A body, and the files that go with it by part name."""

    body: dict[str, Any]
    files: dict[str, Path]


def body_of(request: MusicRequest, options: TaskOptions | None) -> Sent:
    """What to send: only what was said, so that the server's and the model's defaults count.

    A recording is uploaded; one that is a result's link (`Piece.file`) stays where it is.

    Raises:
        PathError: a recording is not there.
    """
    body = request.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    # ACE-Step's clients who say nothing mean two; ours mean what the request says.
    body["batch_size"] = request.batch_size
    if options is not None:
        body |= options.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    files = {}
    for field, part in _PARTS.items():
        path = getattr(request, field)
        if path is None or str(path).startswith(RESULT_LINK):
            continue
        if not path.is_file():
            raise PathError(f"the recording {path} does not exist or is no file.")
        files[part] = path
        del body[field]
    return Sent(body, files)
