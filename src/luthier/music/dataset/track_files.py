"""The three files of a track: `{name}_prompt.txt`, `{name}_lyrics.txt` and `{name}.json`.

Where the last would be a file of luthier's own, such as `run.json`, it is `{name}.track.json`. It
also keeps what luthier itself put in, so that what a person changed since is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.dataset.json_locations import model_problems, raise_problems, read_document
from luthier.dataset.track_names import facts_name, find_facts
from luthier.errors import DatasetError, OutputError, PathError
from luthier.files import read_json, write_json, write_text
from luthier.music.dataset.label_types import KeyName, TimeSignature

_GENERATED = "generated"
_KNOWN = {"caption", "lyrics", "instrumental", "needs_review", "caption_full", "acestep"}


@dataclass(frozen=True)
class TrackPrompt:
    """What `<name>.json` says about a track, under the names of the data set columns.

    Attributes:
        review: why a person should look at it, a sentence each; `needs_review` when there are any.
        kept: which texts were left as a person had written them: "prompt", "lyrics".
    """

    caption: str
    bpm: float | None
    keyscale: KeyName
    timesignature: str
    duration: float
    style_ids: tuple[str, ...]
    language: str
    instrumental: bool
    needs_review: bool
    review: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Before:
    """What the files of a track held before: its fields, and what luthier had put into them."""

    fields: Mapping[str, Any]
    generated: Mapping[str, Any]

    def by_hand(self, field: str) -> Any:
        """The value that a person gave to a field; None when luthier's still stands there."""
        value = self.fields.get(field)
        return None if value == self.generated.get(field) else value


NOTHING_BEFORE = Before({}, {})


class _Fields(BaseModel):
    """Those fields of a track's `.json` that are taken over when a person changed them."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    bpm: float | None = Field(default=None, gt=0, le=300)
    keyscale: str | None = None
    timesignature: TimeSignature = None
    duration: float | None = Field(default=None, gt=0)
    style_ids: list[str] = []
    language: str | None = None
    generated: dict[str, Any] = {}


def read_before(folder: Path, track_id: str) -> Before:
    """What is there of a track; `DatasetError` in sentences when its `.json` is wrong."""
    path = find_facts(folder, track_id)
    fields: dict[str, Any] = {}
    generated: dict[str, Any] = {}
    if path.is_file():
        document = read_document(path)
        try:
            found = _Fields.model_validate(document.value)
        except ValidationError as error:
            raise_problems(model_problems(error, document))
            raise
        others = set(found.model_extra or ())
        is_foreign = others == found.model_fields_set and others and not others & _KNOWN
        if is_foreign:
            raise OutputError(
                f"{path} says nothing of a track, and would be written over: move it away."
            )
        generated = found.generated
        fields = found.model_dump(exclude={"generated"}, exclude_unset=True)
    fields["caption"] = read_text(folder / f"{track_id}_prompt.txt")
    fields["lyrics"] = read_text(folder / f"{track_id}_lyrics.txt")
    return Before(fields, generated)


def write_track(
    folder: Path,
    track_id: str,
    prompt: TrackPrompt,
    lyrics: str,
    generated: Mapping[str, Any],
    before: Before = NOTHING_BEFORE,
) -> None:
    """Write the three files, each atomically, where they hold something else.

    The `.json` comes last: a run that is killed before it finds its own texts again.

    Args:
        folder: where they go.
        track_id: their common stem.
        prompt: the prompt and the fields.
        lyrics: the text of the lyrics file.
        generated: what luthier itself would have put into caption, lyrics and fields.
        before: what was there; fields that luthier does not know are taken over from it.
    """
    if prompt.caption != before.fields.get("caption"):
        write_text(folder / f"{track_id}_prompt.txt", prompt.caption + "\n")
    if lyrics != before.fields.get("lyrics"):
        write_text(folder / f"{track_id}_lyrics.txt", lyrics + "\n")
    known = asdict(prompt)
    foreign = {n: v for n, v in before.fields.items() if n not in known and n != "lyrics"}
    fields = known | {_GENERATED: dict(generated)} | foreign
    path = folder / facts_name(track_id)
    # As JSON gives it back: tuples are lists there.
    if not (path.is_file() and read_json(path) == json.loads(json.dumps(fields))):
        write_json(path, fields)


def read_text(path: Path) -> str | None:
    """A text file without the white space around it; None when it is missing or empty."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text: {error}.") from error
