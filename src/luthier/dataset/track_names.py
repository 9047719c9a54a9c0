"""What the files beside a track are called: none is, or is taken for, one of luthier's own."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from luthier.errors import PathError
from luthier.files import read_json

# JSON files without a track that may lie in a folder of tracks, by stem.
_RESERVED = {
    *("curation", "dataset", "dataset_info", "dataset_manifest", "evaluation", "manifest"),
    *("measures", "metadata", "quality_scores", "run", "sources", "style_mapping"),
    "style_presets",
}
_OF_TRACK = ".track"
_FACTS = ("caption", "duration", "style_ids")  # of which a track's facts have one at least


def folded(name: str) -> str:
    """A name as file systems that tell no case compare it."""
    return unicodedata.normalize("NFC", name).casefold()


def is_reserved(track_id: str) -> bool:
    """Whether `{track_id}.json` is, or would be taken for, a file of luthier's own."""
    return folded(track_id) in _RESERVED


def facts_name(track_id: str) -> str:
    """The name of a track's JSON file; no two tracks share one, and none is luthier's own."""
    stem = folded(track_id)
    while stem.endswith(_OF_TRACK):  # so that a track called "run.track" has one of its own, too
        stem = stem.removesuffix(_OF_TRACK)
    return f"{track_id}{_OF_TRACK if stem in _RESERVED else ''}.json"


def texts_of(track_id: str) -> tuple[str, str, str]:
    """The names of the three files that lie beside a track."""
    return f"{track_id}_prompt.txt", f"{track_id}_lyrics.txt", facts_name(track_id)


def find_facts(folder: Path, track_id: str) -> Path:
    """Where a track's JSON file lies, or will: also where earlier versions put it."""
    path, plain = folder / facts_name(track_id), folder / f"{track_id}.json"
    if path == plain or path.exists() or not plain.is_file():
        return path
    try:
        found = read_json(plain)
    except PathError:
        return path
    is_facts = isinstance(found, dict) and any(f in found for f in _FACTS) and "stage" not in found
    return plain if is_facts else path
