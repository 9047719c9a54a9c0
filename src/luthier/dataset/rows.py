"""A prepared folder (audio, prompts, lyrics, metadata) → the rows of a data set; their split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from luthier.dataset.captions import MAX_CAPTION
from luthier.dataset.prompts import INSTRUMENTAL, MAPPING_NAME, load_mapping
from luthier.dataset.sources import SOURCES_NAME, SourceRecord, load_sources, record_of
from luthier.dataset.styles import DEFAULT_STYLE
from luthier.dataset.tracks import find_audio, measure_music
from luthier.errors import DatasetError
from luthier.files import existing_folder, read_json, sha256_of

Row = dict[str, Any]


def read_rows(
    data_dir: Path, sources: Sequence[SourceRecord], mapping: Mapping[str, Any]
) -> list[Row]:
    """One row a track, by track id: ACE-Step v1's columns and ours.

    Raises:
        DatasetError: a track lacks its prompt or lyrics, or its prompt does not fit the loaders.
    """
    tracks = find_audio(data_dir, "data folder")
    missing = [
        f"{track_id}_{kind}.txt"
        for track_id in tracks
        for kind in ("prompt", "lyrics")
        if not (data_dir / f"{track_id}_{kind}.txt").is_file()
    ]
    if missing:
        raise DatasetError(
            f"{len(missing)} files are missing in {data_dir}, first {missing[0]}: "
            f"run  luthier prompts {data_dir}"
        )
    return [_row(path, data_dir, sources, mapping) for path in tracks.values()]


def _row(
    path: Path, folder: Path, sources: Sequence[SourceRecord], mapping: Mapping[str, Any]
) -> Row:
    track_id = path.stem
    caption = _read(folder / f"{track_id}_prompt.txt")
    lyrics = _read(folder / f"{track_id}_lyrics.txt")
    _check_caption(caption, folder / f"{track_id}_prompt.txt")
    facts = _facts(path, folder / f"{track_id}.json")
    source = record_of(track_id, sources)
    return {
        # ACE-Step v1's loader: an empty speaker path and an empty recaption are what it needs.
        "keys": track_id,
        "filename": str(path.resolve()),
        "tags": caption.split(", "),
        "speaker_emb_path": "",
        "norm_lyrics": lyrics,
        "recaption": {},
        "caption": caption,
        "lyrics": lyrics,
        "bpm": facts["bpm"],
        "keyscale": facts["keyscale"],
        "timesignature": str(facts["timesignature"]),
        "duration": float(facts["duration"]),
        "style_ids": list(mapping.get(track_id) or facts["style_ids"]),
        "source_id": source.source_id if source else "",
        "language": facts["language"],
        "instrumental": bool(facts["instrumental"]),
        "sha256": sha256_of(path),
    }


def _facts(path: Path, metadata: Path) -> dict[str, Any]:
    """The track's own `.json`, else what can be measured (folders made by other tools)."""
    if metadata.is_file():
        facts: dict[str, Any] = read_json(metadata)
        needed = ("bpm", "keyscale", "timesignature", "duration", "style_ids")
        lacking = [name for name in (*needed, "language", "instrumental") if name not in facts]
        if lacking:
            raise DatasetError(
                f"{metadata} lacks {', '.join(lacking)}: run  luthier prompts  again."
            )
        return facts
    music = measure_music(path)
    lyrics = _read(path.with_name(f"{path.stem}_lyrics.txt"))
    return {
        "bpm": music.bpm,
        "keyscale": music.key,
        "timesignature": music.time_signature,
        "duration": music.duration_s,
        "style_ids": [DEFAULT_STYLE],
        "language": "en",
        "instrumental": lyrics == INSTRUMENTAL,
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text: {error}.") from error


def _check_caption(caption: str, path: Path) -> None:
    tags = caption.split(", ")
    if not caption or not all(tag.strip() for tag in tags):
        raise DatasetError(f'{path} has an empty tag: tags are separated by ", ".')
    if "\n" in caption:
        raise DatasetError(f"{path} has more than one line.")
    if len(caption) > MAX_CAPTION:
        raise DatasetError(
            f"{path} has {len(caption)} characters; loaders cut at {MAX_CAPTION}: shorten it."
        )


def read_metadata(metadata_dir: Path) -> tuple[list[SourceRecord], dict[str, list[str]]]:
    """`sources.json` (needed: it is the licence gate) and `style_mapping.json` (optional)."""
    existing_folder(metadata_dir, "metadata folder")
    mapping = metadata_dir / MAPPING_NAME
    return (
        load_sources(metadata_dir / SOURCES_NAME),
        load_mapping(mapping) if mapping.is_file() else {},
    )


def split_tracks(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(training, validation), stratified by first style, the same for any order of `rows`.

    Tracks are lined up by style, shuffled by hash within one, and validation takes every k-th:
    so each style gives its share. At least one, whenever there are two tracks and a share.
    """

    def place(row: Row) -> tuple[str, str]:
        return row["style_ids"][0], hashlib.sha256(f"{seed}/{row['keys']}".encode()).hexdigest()

    line = sorted(rows, key=place)
    count = round(share * len(line))
    if share > 0 and len(line) >= 2:
        count = min(max(1, count), len(line) - 1)
    chosen = {int((i + 0.5) * len(line) / count) for i in range(count)}
    train = [row for i, row in enumerate(line) if i not in chosen]
    validation = [row for i, row in enumerate(line) if i in chosen]
    return sorted(train, key=itemgetter("keys")), sorted(validation, key=itemgetter("keys"))


def dataset_hash(train: Sequence[Row], validation: Sequence[Row]) -> str:
    """sha256 over contents and split; independent of row order and of where files lie."""
    lines = [
        json.dumps({**row, "filename": Path(row["filename"]).name, "split": split}, sort_keys=True)
        for split, rows in (("train", train), ("validation", validation))
        for row in rows
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
