"""A folder of audio and style ids → a prompt, lyrics and metadata file for each track."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luthier.audio.keynames import parse_key
from luthier.dataset.tracks import (
    REJECTED,
    Music,
    find_audio,
    is_audio,
    is_rejected,
    measure_music,
)
from luthier.errors import DatasetError
from luthier.files import make_folder, read_json
from luthier.music.dataset.captions import SEPARATOR, build_caption, fit_octave, is_instrumental
from luthier.music.dataset.lyrics import (
    INSTRUMENTAL,
    has_words_to_write,
    language_of,
    lyric_sheet,
    lyrics_problems,
)
from luthier.music.dataset.style_mapping import (
    MAPPING_NAME,
    StyleMapping,
    default_mapping,
    load_mapping,
    unknown_names,
)
from luthier.music.dataset.style_preset import StylePreset, find
from luthier.music.dataset.styles import DEFAULT_STYLE
from luthier.music.dataset.track_files import (
    NOTHING_BEFORE,
    Before,
    TrackPrompt,
    read_before,
    write_track,
)
from luthier.music.dataset.v1_rules import tag_problems
from luthier.output_folder import check_shared
from luthier.progress import SILENT, Display
from luthier.provenance import write_run

__all__ = [
    "INSTRUMENTAL",
    "MAPPING_NAME",
    "PromptSettings",
    "TrackPrompt",
    "curated_music",
    "default_mapping",
    "known_tracks",
    "load_mapping",
    "music_of",
    "write_prompts",
]

STAGE = "prompts"  # in the record of what this module writes


@dataclass(frozen=True)
class PromptSettings:
    """How prompts are made.

    Attributes:
        seed: with the track id, chooses among a style's moods.
        include_lyrics: tracks of vocal styles get a sheet with section headers.
        overwrite: what a person has written is replaced too.
        dry_run: nothing is written.
    """

    seed: int = 42
    include_lyrics: bool = False
    overwrite: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class _Track:
    """One track on its way to its files.

    Attributes:
        mapped: the styles that the mapping gives, or the default one.
        styles: those, unless the mapping has none and a person chose some in the track's file.
    """

    track_id: str
    mapped: tuple[str, ...]
    styles: tuple[StylePreset, ...]
    is_styled: bool
    music: Music
    before: Before


def write_prompts(
    audio_dir: Path,
    style_mapping: StyleMapping | None,
    presets: Mapping[str, StylePreset],
    output_dir: Path | None = None,
    *,
    music: Mapping[str, Music] | None = None,
    settings: PromptSettings | None = None,
    display: Display = SILENT,
) -> dict[str, TrackPrompt]:
    """Write `{name}_prompt.txt`, `{name}_lyrics.txt` and `{name}.json` for every track.

    What a person changed in those files stays, and is named in `kept`; the rest is made anew.
    Tracks that the mapping leaves out are CORE-01 and marked for review; None leaves out all.

    Args:
        audio_dir: audio files, directly in it.
        style_mapping: style ids by track id.
        presets: from `load_presets`.
        output_dir: None writes beside the audio.
        music: known tempo, key and metre by track id; else taken from the track's own `.json`
            where a person changed it, else from the folder's `curation.json`, else measured.
        settings: None takes the defaults.
        display: shows progress.

    Raises:
        DatasetError: an unknown style or track id, with the nearest known one.
        OutputError: `output_dir` is another stage's, or a track's file there is no track's.
    """
    settings = settings or PromptSettings()
    tracks = find_audio(audio_dir)
    mapping = style_mapping or {}
    for _, _, problem in unknown_names(mapping, presets, known_tracks(audio_dir)):
        raise DatasetError(f"the style mapping is wrong: {problem}")
    known = curated_music(audio_dir) | dict(music or {})
    target = output_dir or audio_dir
    is_beside = os.path.realpath(target) == os.path.realpath(audio_dir)
    if not is_beside:
        check_shared(target, STAGE)
    if not settings.dry_run:
        make_folder(target)
    prompts = {}
    with display.task("prompts", len(tracks)) as task:
        for track_id, path in tracks.items():
            before = NOTHING_BEFORE if settings.overwrite else read_before(target, track_id)
            facts = music_of(path, before, known.get(track_id))
            track = _track(track_id, mapping.get(track_id), presets, facts, before)
            prompt, lyrics, generated = _describe(track, settings)
            if not settings.dry_run:
                write_track(target, track_id, prompt, lyrics, generated, before)
            prompts[track_id] = prompt
            task.advance(note=track_id)
    if not settings.dry_run and not is_beside:
        config = asdict(settings) | {"styles": {t: p.style_ids for t, p in prompts.items()}}
        seeds = {"moods": settings.seed}
        write_run(target, stage=STAGE, inputs=[audio_dir], config=config, seeds=seeds)
    return prompts


def known_tracks(audio_dir: Path) -> set[str]:
    """The ids that a mapping may name: tracks in the folder, and those that curation left out, or
    rejected later.
    """
    rows = _curation_rows(audio_dir)
    left_out = {Path(row["source"]).stem for row in rows if row["status"] != "success"}
    rejected = audio_dir / REJECTED
    if is_rejected(rejected) and rejected.is_dir():
        left_out |= {path.stem for path in rejected.iterdir() if is_audio(path)}
    return left_out | set(find_audio(audio_dir))


def curated_music(audio_dir: Path) -> dict[str, Music]:
    """Tempo and key by track id, as the folder's `curation.json` has them."""
    return {
        Path(row["output_path"]).stem: Music(row["duration"], row.get("bpm"), row.get("key"))
        for row in _curation_rows(audio_dir)
        if row.get("status") == "success" and row.get("output_path") and row.get("key")
    }


def music_of(path: Path, before: Before, known: Music | None) -> Music:
    """What a person wrote, else what the caller or curation knows, else what can be measured."""
    bpm, key = before.by_hand("bpm"), before.by_hand("keyscale")
    duration = before.fields.get("duration")
    if known is None and bpm and key and duration:
        known = Music(duration)
    music = known or measure_music(path)
    metre = before.by_hand("timesignature") or music.time_signature
    return Music(music.duration_s, bpm or music.bpm, key or music.key, metre)


def _curation_rows(audio_dir: Path) -> list[dict[str, Any]]:
    path = audio_dir / "curation.json"
    document = read_json(path) if path.is_file() else {"results": []}
    rows = document.get("results") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise DatasetError(f"{path} is no report of  luthier curate: it has no results.")
    return rows


def _track(
    track_id: str,
    mapped: Sequence[str] | None,
    presets: Mapping[str, StylePreset],
    music: Music,
    before: Before,
) -> _Track:
    chosen = mapped or before.by_hand("style_ids")
    return _Track(
        track_id,
        mapped=tuple(mapped or [DEFAULT_STYLE]),
        styles=tuple(find(style, presets) for style in chosen or [DEFAULT_STYLE]),
        is_styled=bool(chosen),
        music=music,
        before=before,
    )


def _describe(
    track: _Track, settings: PromptSettings
) -> tuple[TrackPrompt, str, dict[str, str | float | list[str] | None]]:
    """What goes into the files: the prompt, the lyrics, and what luthier alone would have put."""
    styles, music, before = track.styles, track.music, track.before
    bpm = before.by_hand("bpm") or (fit_octave(music.bpm, styles) if music.bpm else None)
    keyscale = parse_key(music.key).name if music.key else None
    caption = build_caption(styles, bpm, keyscale, f"{settings.seed}/{track.track_id}")
    sheet = lyric_sheet(styles, music.duration_s) if settings.include_lyrics else INSTRUMENTAL
    own_caption = _unless(before.by_hand("caption"), caption)
    own_lyrics = _unless(before.by_hand("lyrics"), sheet, INSTRUMENTAL)
    lyrics = own_lyrics or sheet
    language = language_of(lyrics) or "en"
    generated: dict[str, str | float | list[str] | None] = {
        "caption": caption,
        "lyrics": sheet,
        "bpm": bpm,
        "keyscale": keyscale,
        "timesignature": music.time_signature,
        "style_ids": list(track.mapped),
        "language": language,
    }
    for field in ("bpm", "keyscale", "timesignature", "language"):
        if before.by_hand(field):
            generated[field] = None  # so that it still counts as a person's the next time
    review = tuple(_review(track, own_caption, lyrics, is_sheet=lyrics == sheet))
    prompt = TrackPrompt(
        caption=own_caption or caption,
        bpm=bpm,
        keyscale=keyscale,
        timesignature=music.time_signature,
        duration=music.duration_s,
        style_ids=tuple(style.style_id for style in styles),
        language=before.by_hand("language") or language,
        instrumental=lyrics == INSTRUMENTAL and is_instrumental(styles),
        needs_review=bool(review),
        review=review,
        kept=tuple(n for n, text in (("prompt", own_caption), ("lyrics", own_lyrics)) if text),
    )
    return prompt, lyrics, generated


def _unless(text: str | None, *generated: str) -> str | None:
    return None if text in generated else text


def _review(
    track: _Track, own_caption: str | None, lyrics: str, *, is_sheet: bool
) -> Iterator[str]:
    """Why a person should look at a track."""
    if not track.is_styled:
        yield f"it has no style in the mapping and was taken as {DEFAULT_STYLE}."
    if own_caption:
        for problem in tag_problems(own_caption.split(SEPARATOR)):
            yield f"its prompt {problem}"
    if lyrics == INSTRUMENTAL:
        if has_words_to_write(track.styles):
            yield "its style has a voice, but it has no lyrics: write them, or ask for a sheet."
    elif not is_sheet:
        yield from lyrics_problems(lyrics)
    elif has_words_to_write(track.styles):
        yield "its lyrics are a sheet: put the words that are sung under the headers."
