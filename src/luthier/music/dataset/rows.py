"""A prepared folder (audio, prompts, lyrics, metadata) → the rows of a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from luthier.dataset.json_locations import model_problems, raise_problems, read_document
from luthier.dataset.sources import SOURCES_NAME, SourceRecord, load_sources, record_of
from luthier.dataset.track_names import find_facts
from luthier.dataset.tracks import measure_music
from luthier.errors import DatasetError, PathError
from luthier.files import existing_folder, sha256_of
from luthier.music.dataset.captions import MAX_CAPTION, SEPARATOR
from luthier.music.dataset.label_types import KeyName, TimeSignature
from luthier.music.dataset.prompts import INSTRUMENTAL, MAPPING_NAME, load_mapping
from luthier.music.dataset.styles import DEFAULT_STYLE
from luthier.music.dataset.v1_rules import LANGUAGES, tag_problems
from luthier.progress import SILENT, Display

Row = dict[str, Any]
_PLACE_BOUND = ("filename", "extra")  # of a row; they tell where files lie, not what they hold


class TrackFacts(BaseModel):
    """What `<track>.json` says. Other fields may stand there too."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    bpm: float | None = Field(ge=0)
    keyscale: KeyName
    timesignature: TimeSignature
    duration: float = Field(gt=0, description="seconds")
    style_ids: tuple[str, ...] = Field(min_length=1)
    language: str
    instrumental: bool
    needs_review: bool = False
    caption_full: str | None = Field(
        default=None, description="a caption too long for a prompt file, which holds its start"
    )
    acestep: dict[str, Any] | None = Field(
        default=None, description="the sample of ACE-Step 1.5's data set file that it came from"
    )

    @field_validator("language")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in LANGUAGES:
            raise ValueError(f"{value!r} is no language of ACE-Step: {' '.join(sorted(LANGUAGES))}")
        return value


def missing_texts(data_dir: Path, track_ids: Sequence[str]) -> list[str]:
    """The prompt and lyrics files that tracks lack, by name."""
    return [
        f"{track_id}_{kind}.txt"
        for track_id in track_ids
        for kind in ("prompt", "lyrics")
        if not (data_dir / f"{track_id}_{kind}.txt").is_file()
    ]


def read_rows(
    data_dir: Path,
    tracks: Mapping[str, Path],
    sources: Sequence[SourceRecord],
    mapping: Mapping[str, Sequence[str]],
    display: Display = SILENT,
) -> tuple[list[Row], list[str]]:
    """One row a track, by track id: ACE-Step v1's columns and ours; and who needs review.

    Args:
        data_dir: with `{track}_prompt.txt`, `{track}_lyrics.txt` and `{track}.json` each.
        tracks: audio by track id.
        sources: licence records.
        mapping: style ids by track id; they go before those of the track's own file.
        display: shows the hashing of the audio.

    Raises:
        DatasetError: a track lacks its prompt or lyrics, or something about it is wrong.
    """
    if missing := missing_texts(data_dir, list(tracks)):
        raise DatasetError(
            f"{len(missing)} files are missing in {data_dir}, first {missing[0]}: "
            f"run  luthier prompts {data_dir}"
        )
    rows, review = [], []
    with display.task("tracks", len(tracks)) as task:
        for track_id, path in tracks.items():
            facts = _facts(path, find_facts(data_dir, track_id))
            source = record_of(track_id, sources)
            rows.append(_row(path, facts, source, mapping.get(track_id) or facts.style_ids))
            review += [track_id] if facts.needs_review else []
            task.advance(note=track_id)
    return rows, review


def _row(
    path: Path, facts: TrackFacts, source: SourceRecord | None, style_ids: Sequence[str]
) -> Row:
    track_id = path.stem
    prompt_path = path.with_name(f"{track_id}_prompt.txt")
    prompt, lyrics = _read(prompt_path), _read(path.with_name(f"{track_id}_lyrics.txt"))
    tags = prompt.split(SEPARATOR)
    raise_problems([f"{prompt_path} {problem}" for problem in tag_problems(tags)])
    if not lyrics:
        raise DatasetError(
            f"{track_id}_lyrics.txt is empty: a track without words has {INSTRUMENTAL} there."
        )
    full = facts.caption_full
    return {
        # ACE-Step v1's loader: an empty speaker path and an empty recaption are what it needs.
        "keys": track_id,
        "filename": str(path.resolve()),
        "tags": tags,
        "speaker_emb_path": "",
        "norm_lyrics": lyrics,
        "recaption": {},
        # The prompt file goes first where somebody has edited it since.
        "caption": full if full and shortened(full) == prompt else prompt,
        "lyrics": lyrics,
        "bpm": facts.bpm or None,
        "keyscale": facts.keyscale,
        "timesignature": facts.timesignature,
        "duration": facts.duration,
        "style_ids": list(style_ids),
        "source_id": source.source_id if source else "",
        "language": facts.language,
        "instrumental": facts.instrumental,
        "sha256": sha256_of(path),
        "extra": json.dumps(facts.acestep, ensure_ascii=False) if facts.acestep else "",
    }


def shortened(caption: str) -> str:
    """A caption as a prompt file can hold it: one line of whole tags or words, 256 characters."""
    tags = " ".join(caption.split()).split(SEPARATOR)
    line = SEPARATOR.join(tag for tag in tags if tag.strip())
    if len(line) <= MAX_CAPTION:
        return line
    start = line[: MAX_CAPTION + 1]
    return start[: max(start.rfind(SEPARATOR), 0) or max(start.rfind(" "), 0) or MAX_CAPTION]


def _facts(path: Path, metadata: Path) -> TrackFacts:
    """The track's own `.json`, else what can be measured (folders made by other tools)."""
    if metadata.is_file():
        document = read_document(metadata)
        try:
            return TrackFacts.model_validate(document.value)
        except ValidationError as error:
            problems = model_problems(error, document)
            raise DatasetError(
                "\n  ".join(problems) + f" Or run  luthier prompts {path.parent}  again."
            ) from error
    music = measure_music(path)
    lyrics = _read(path.with_name(f"{path.stem}_lyrics.txt"))
    return TrackFacts(
        bpm=music.bpm,
        keyscale=music.key,
        timesignature=music.time_signature,
        duration=music.duration_s,
        style_ids=(DEFAULT_STYLE,),
        language="en",
        instrumental=lyrics == INSTRUMENTAL,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text: {error}.") from error
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from error


def read_metadata(metadata_dir: Path) -> tuple[list[SourceRecord], dict[str, list[str]]]:
    """`sources.json` (needed: it is the licence gate) and `style_mapping.json` (optional)."""
    existing_folder(metadata_dir, "metadata folder")
    mapping = metadata_dir / MAPPING_NAME
    return (
        load_sources(metadata_dir / SOURCES_NAME),
        load_mapping(mapping) if mapping.is_file() else {},
    )


def dataset_hash(train: Sequence[Row], validation: Sequence[Row]) -> str:
    """sha256 over contents and split; independent of row order, of repetition and of where files
    lie.
    """
    lines = []
    for split, rows in (("train", train), ("validation", validation)):
        for row in rows:
            content = {name: value for name, value in row.items() if name not in _PLACE_BOUND}
            name = Path(row["filename"]).name
            lines.append(json.dumps({**content, "file": name, "split": split}, sort_keys=True))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
