"""ACE-Step 1.5's own data set file: `{"metadata": {...}, "samples": [{...}]}`, read and written.

Nothing of a file that was read gets lost: each track keeps the sample that it came from, and where
its facts still say the same, the sample is written back letter for letter.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from luthier.audio.keynames import parse_key
from luthier.dataset.json_locations import Document, model_problems, raise_problems, read_document
from luthier.errors import DatasetError, LuthierError, OutputError, RequestError
from luthier.files import write_json
from luthier.music.dataset.captions import SEPARATOR
from luthier.music.dataset.prompts import INSTRUMENTAL
from luthier.music.dataset.v1_rules import LANGUAGES
from luthier.output_folder import check_output_file

_METRES = ("2", "3", "4", "6")
# Our name of a fact → the sample's.
_NAMES = {
    "filename": "audio_path", "caption": "caption", "lyrics": "lyrics", "bpm": "bpm",
    "keyscale": "keyscale", "timesignature": "timesignature", "duration": "duration",
    "language": "language", "instrumental": "is_instrumental",
}  # fmt: skip


class _Sample(BaseModel):
    """The fields that are used, with their kinds; others are kept as they are."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    audio_path: str
    caption: str | None = None
    genre: str | None = None
    lyrics: str | None = None
    bpm: float | str | None = None
    keyscale: str | None = None
    timesignature: str | int | None = None
    duration: float | None = None
    language: str | None = None
    is_instrumental: bool | None = None
    custom_tag: str | None = None
    prompt_override: str | None = None


@dataclass(frozen=True)
class AceStepFile:
    """A file that was read: what it says of all samples, the samples, and what else stands there.

    `folder` is where the file lies: audio may be named relative to it.
    """

    metadata: dict[str, Any]
    samples: tuple[dict[str, Any], ...]
    rest: dict[str, Any]
    folder: Path


def read_acestep(path: Path) -> AceStepFile:
    """Read a data set file of ACE-Step 1.5.

    Raises:
        PathError: it is missing or not JSON.
        DatasetError: it has another form; wrong samples are said with line and field.
    """
    document = read_document(path)
    value = document.value
    if not isinstance(value, dict) or not isinstance(value.get("samples"), list):
        raise DatasetError(
            f'{path} is no data set file of ACE-Step 1.5: {{"metadata": {{...}}, "samples": '
            "[...]} is expected."
        )
    metadata = value.get("metadata", {})
    if not isinstance(metadata, dict):
        raise DatasetError(f"{document.at('metadata')}: metadata should be an object.")
    raise_problems(_sample_problems(document, value["samples"]))
    rest = {name: part for name, part in value.items() if name not in ("metadata", "samples")}
    return AceStepFile(metadata, tuple(value["samples"]), rest, path.parent)


def _sample_problems(document: Document, samples: Sequence[Any]) -> list[str]:
    problems = []
    for place, sample in enumerate(samples):
        try:
            _Sample.model_validate(sample)
        except ValidationError as error:
            problems += model_problems(error, document, "samples", place)
    return problems


def sample_facts(sample: Mapping[str, Any], file: AceStepFile) -> dict[str, Any]:
    """What a sample says, in our terms: the names and kinds of a data set row.

    The caption has its activation tag, where the file says that it belongs; the duration is None
    where the file does not know it.
    """
    lyrics = "\n".join(str(sample.get("lyrics") or "").splitlines()).strip()
    language = str(sample.get("language") or "unknown").lower()
    wordless = lyrics in ("", INSTRUMENTAL)
    return {
        "filename": str(_audio_path(sample, file.folder).resolve()),
        "caption": _full_caption(sample, file.metadata),
        "lyrics": lyrics or INSTRUMENTAL,
        "bpm": _number(sample.get("bpm")),
        "keyscale": _key(sample.get("keyscale")),
        "timesignature": _metre(sample.get("timesignature")),
        "duration": _number(sample.get("duration")),
        "language": language if language in LANGUAGES else "unknown",
        "instrumental": bool(sample.get("is_instrumental")) or wordless,
    }


def _audio_path(sample: Mapping[str, Any], folder: Path) -> Path:
    path = Path(sample["audio_path"]).expanduser()
    beside = folder / path
    return beside if beside.is_file() else path


def _full_caption(sample: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    by_genre = sample.get("prompt_override") == "genre"
    caption = str(sample.get("genre" if by_genre else "caption") or "").strip()
    tag = str(sample.get("custom_tag") or "").strip()
    if not tag:
        return caption
    position = metadata.get("tag_position", "prepend")
    if position == "replace" or not caption:
        return tag
    return SEPARATOR.join((caption, tag) if position == "append" else (tag, caption))


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < float("inf") else None


def _key(value: Any) -> str | None:
    try:
        return parse_key(str(value)).name if value else None
    except RequestError:
        return None


def _metre(value: Any) -> str | None:
    beats = str(value or "").split("/")[0].strip()
    return beats if beats in _METRES else None


def origin_of(file: AceStepFile, place: int) -> dict[str, Any]:
    """What a track keeps of the file that it came from, to be written back."""
    return {
        "metadata": file.metadata,
        "rest": file.rest,
        "place": place,
        "folder": str(file.folder.resolve()),
        "sample": file.samples[place],
    }


def to_acestep(rows: Sequence[Mapping[str, Any]], name: str, created: str) -> dict[str, Any]:
    """The file's content for the rows of a data set; in the order of the file they came from.

    Args:
        rows: as `load_rows` gives them.
        name: of the data set, where no file says it.
        created: when, as ISO 8601, where no file says it.
    """
    origins = [json.loads(row["extra"]) if row.get("extra") else {} for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (origins[i].get("place", len(rows)), i))
    samples = [_sample(rows[i], origins[i]) for i in order]
    first: dict[str, Any] = next((origin for origin in origins if origin), {})
    metadata = {
        "name": name,
        "custom_tag": "",
        "tag_position": "prepend",
        "created_at": created,
        "num_samples": len(rows),
        "all_instrumental": all(row["instrumental"] for row in rows),
        "genre_ratio": 0,
    }
    if first:
        # A file is what it was; only the count follows where tracks were left out.
        metadata = {**first["metadata"]}
        if metadata.get("num_samples", len(rows)) != len(rows):
            metadata["num_samples"] = len(rows)
    return {"metadata": metadata, "samples": samples, **first.get("rest", {})}


def _sample(row: Mapping[str, Any], origin: Mapping[str, Any]) -> dict[str, Any]:
    if not origin:
        return _new_sample(row)
    sample = dict(origin["sample"])
    file = AceStepFile(origin["metadata"], (sample,), {}, Path(origin["folder"]))
    said = sample_facts(sample, file)
    changed = {ours for ours in _NAMES if said[ours] != row[ours]}
    if said["duration"] is None:
        changed.discard("duration")  # it was measured for us; the file did not know it
    sample |= {_NAMES[ours]: _plain(row[ours]) for ours in changed}
    if "filename" in changed:
        sample["filename"] = Path(row["filename"]).name
    if "caption" in changed:
        # The new caption is all there is to say: no tag is to be added to it again.
        sample |= {"custom_tag": "", "prompt_override": None}
    if "lyrics" in changed:
        sample["formatted_lyrics"] = ""
    return sample


def _new_sample(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": hashlib.sha256(row["keys"].encode()).hexdigest()[:8],
        "audio_path": row["filename"],
        "filename": Path(row["filename"]).name,
        "caption": row["caption"],
        "genre": "",
        "lyrics": row["lyrics"],
        "raw_lyrics": "" if row["instrumental"] else row["lyrics"],
        "formatted_lyrics": "",
        "bpm": None if row["bpm"] is None else round(row["bpm"]),
        "keyscale": row["keyscale"] or "",
        "timesignature": row["timesignature"] or "",
        "duration": _plain(row["duration"]),
        "language": "unknown" if row["instrumental"] else row["language"],
        "is_instrumental": row["instrumental"],
        "custom_tag": "",
        "labeled": True,
        "prompt_override": None,
    }


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def write_acestep(
    path: Path, rows: Iterable[Mapping[str, Any]], name: str, created: str
) -> dict[str, Any]:
    """Write rows as a data set file of ACE-Step 1.5; return what was written."""
    content = to_acestep(list(rows), name, created)
    write_json(path, content)
    return content


def check_acestep_place(path: Path) -> None:
    """Refuse to write a data set file over a file of another kind.

    Raises:
        OutputError: such a file is there, or its name is too long.
        PathError: a folder is there.
    """
    check_output_file(path, [])
    if os.path.lexists(path):
        try:
            read_acestep(path)
        except LuthierError as error:
            raise OutputError(
                f"{path} is there already and is no data set file of ACE-Step: choose another name."
            ) from error
