"""A folder of audio and style ids → a prompt, lyrics and metadata file for each track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from luthier.audio.keynames import parse_key
from luthier.dataset.captions import build_caption, fit_octave, is_instrumental
from luthier.dataset.styles import DEFAULT_STYLE, StylePreset, find, nearest
from luthier.dataset.tracks import Music, find_audio, measure_music
from luthier.errors import DatasetError
from luthier.files import make_folder, read_json, write_json, write_text
from luthier.progress import SILENT, Display

INSTRUMENTAL = "[Instrumental]"
MAPPING_NAME = "style_mapping.json"

StyleMapping = Mapping[str, Sequence[str]]

__all__ = ["build_caption", "default_mapping", "load_mapping", "write_prompts"]


@dataclass(frozen=True)
class TrackPrompt:
    """What `<name>.json` says about a track, under the names of the data set columns."""

    caption: str
    bpm: float | None
    keyscale: str | None
    timesignature: str
    duration: float
    style_ids: tuple[str, ...]
    language: str
    instrumental: bool
    needs_review: bool


def default_mapping(audio_dir: Path) -> dict[str, list[str]]:
    """Every track of a folder as CORE-01: a start that wants review."""
    return {track_id: [DEFAULT_STYLE] for track_id in find_audio(audio_dir)}


def load_mapping(path: Path) -> dict[str, list[str]]:
    """Read `{track id: [style id, …]}`."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise DatasetError(f'{path} should be {{"track id": ["style id", ...]}}.')
    mapping = {}
    for track_id, styles in document.items():
        names = [styles] if isinstance(styles, str) else styles
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise DatasetError(f"{path}: {track_id} should have a list of style ids, not {styles}.")
        mapping[track_id] = names
    return mapping


def write_prompts(
    audio_dir: Path,
    style_mapping: StyleMapping | None,
    presets: Mapping[str, StylePreset],
    output_dir: Path | None = None,
    *,
    music: Mapping[str, Music] | None = None,
    seed: int = 42,
    display: Display = SILENT,
) -> dict[str, TrackPrompt]:
    """Write `{name}_prompt.txt`, `{name}_lyrics.txt` and `{name}.json` for every track.

    Lyrics that someone wrote are kept; prompts are made anew. Tracks that the mapping leaves out
    are CORE-01 and marked for review; None leaves out all.

    Args:
        audio_dir: audio files, directly in it.
        style_mapping: style ids by track id.
        presets: from `load_presets`.
        output_dir: None writes beside the audio.
        music: known tempo, key and metre by track id; else taken from the folder's
            `curation.json`, else measured.
        seed: with the track id, chooses among a style's moods.

    Raises:
        DatasetError: an unknown style or track id, with the nearest known one.
    """
    tracks = find_audio(audio_dir)
    rows = _curation_rows(audio_dir)
    left_out = {Path(row["source"]).stem for row in rows if row["status"] != "success"}
    mapping = _checked(style_mapping or {}, tracks, left_out, presets)
    target = make_folder(output_dir or audio_dir)
    known = _curated_music(rows) | dict(music or {})
    prompts = {}
    with display.task("prompts", len(tracks)) as task:
        for track_id, path in tracks.items():
            styles = [presets[s] for s in mapping.get(track_id, [DEFAULT_STYLE])]
            facts = known.get(track_id) or measure_music(path)
            lyrics = _kept_lyrics(target / f"{track_id}_lyrics.txt")
            prompt = _describe(styles, facts, f"{seed}/{track_id}", lyrics)
            if track_id not in mapping:
                prompt = replace(prompt, needs_review=True)
            write_text(target / f"{track_id}_prompt.txt", prompt.caption + "\n")
            write_text(target / f"{track_id}_lyrics.txt", (lyrics or INSTRUMENTAL) + "\n")
            write_json(target / f"{track_id}.json", asdict(prompt))
            prompts[track_id] = prompt
            task.advance(note=track_id)
    return prompts


def _curation_rows(audio_dir: Path) -> list[dict[str, Any]]:
    path = audio_dir / "curation.json"
    document = read_json(path) if path.is_file() else {}
    rows: list[dict[str, Any]] = document.get("results", [])
    return rows


def _curated_music(rows: Sequence[Mapping[str, Any]]) -> dict[str, Music]:
    """Tempo and key by track id, as curation measured them."""
    return {
        Path(row["output_path"]).stem: Music(row["duration"], row.get("bpm"), row.get("key"))
        for row in rows
        if row.get("status") == "success" and row.get("output_path") and row.get("key")
    }


def _describe(
    styles: Sequence[StylePreset], music: Music, seed: str, lyrics: str | None
) -> TrackPrompt:
    bpm = fit_octave(music.bpm, styles) if music.bpm else None
    return TrackPrompt(
        caption=build_caption(styles, bpm, music.key, seed),
        bpm=bpm,
        keyscale=parse_key(music.key).name if music.key else None,
        timesignature=music.time_signature,
        duration=music.duration_s,
        style_ids=tuple(style.style_id for style in styles),
        language="en",
        instrumental=lyrics is None and is_instrumental(styles),
        needs_review=False,
    )


def _kept_lyrics(path: Path) -> str | None:
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    return text if text and text != INSTRUMENTAL else None


def _checked(
    mapping: StyleMapping,
    tracks: Mapping[str, Path],
    left_out: set[str],
    presets: Mapping[str, StylePreset],
) -> StyleMapping:
    """The mapping, if its tracks are there (or were left out by curation) and its styles exist."""
    for track_id, styles in mapping.items():
        if track_id not in tracks and track_id not in left_out:
            raise DatasetError(
                f"the style mapping names the track {track_id!r}, which is not in the audio "
                f"folder; the nearest there is {nearest(track_id, tracks)!r}."
            )
        for style in styles:
            find(style, presets)
    return mapping
