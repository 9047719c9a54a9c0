"""ACE-Step 1.5's data set file → a prepared folder, ready for licences, styles and a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.audio.decode import read_audio
from luthier.dataset.track_names import facts_name
from luthier.dataset.tracks import is_audio
from luthier.errors import DatasetError
from luthier.files import write_json, write_text
from luthier.music.dataset.acestep_json import AceStepFile, origin_of, read_acestep, sample_facts
from luthier.music.dataset.rows import shortened
from luthier.music.dataset.styles import DEFAULT_STYLE
from luthier.output_folder import check_output, output_folder
from luthier.progress import SILENT, Display


@dataclass(frozen=True)
class ImportReport:
    """What an import made, or would make.

    Attributes:
        tracks: their ids.
        notes: what could not be taken over as it stood, a sentence each.
    """

    tracks: tuple[str, ...]
    notes: tuple[str, ...]


def import_acestep(
    path: Path, output_dir: Path, *, dry_run: bool = False, display: Display = SILENT
) -> ImportReport:
    """Write a folder with links to the audio, and a prompt, lyrics and facts for each track.

    Args:
        path: the JSON file; audio is looked for beside it, then from the working folder.
        output_dir: new or empty.
        dry_run: check, but write nothing.
        display: shows the tracks.

    Raises:
        PathError: the file cannot be read.
        OutputError: the folder holds something.
        DatasetError: the file has another form, or audio is missing (all of it is named).
    """
    file = read_acestep(path)
    check_output(output_dir, None)
    facts = [sample_facts(sample, file) for sample in file.samples]
    _require_audio(path, facts)
    tracks = _track_ids(file, facts)
    notes = [note for t, f, s in zip(tracks, facts, file.samples, strict=True)
             for note in _notes(t, f, s)]  # fmt: skip
    if not dry_run:
        with output_folder(output_dir, None) as folder, display.task("tracks", len(tracks)) as task:
            for place, (track_id, said) in enumerate(zip(tracks, facts, strict=True)):
                _write_track(folder, track_id, said, origin_of(file, place))
                task.advance(note=track_id)
    return ImportReport(tuple(tracks), tuple(notes))


def _require_audio(path: Path, facts: list[dict[str, Any]]) -> None:
    if not facts:
        raise DatasetError(f"{path} has no samples.")
    missing = [said["filename"] for said in facts if not Path(said["filename"]).is_file()]
    if missing:
        names = "".join(f"\n  {name}" for name in missing)
        raise DatasetError(f"{len(missing)} audio files of {path} are not there:{names}")
    strange = [said["filename"] for said in facts if not is_audio(Path(said["filename"]))]
    if strange:
        raise DatasetError(f"{strange[0]} has no name of an audio file.")


def _track_ids(file: AceStepFile, facts: list[dict[str, Any]]) -> list[str]:
    """The files' names without suffix; with a number where two are the same."""
    used: set[str] = set()
    tracks = []
    for sample, said in zip(file.samples, facts, strict=True):
        stem = Path(said["filename"]).stem
        name, number = stem, 1
        while name in used:
            number += 1
            name = f"{stem}-{sample.get('id') or number}" if number == 2 else f"{stem}-{number}"
        used.add(name)
        tracks.append(name)
    return tracks


def _notes(track_id: str, said: Mapping[str, Any], sample: Mapping[str, Any]) -> list[str]:
    notes = []
    if not said["caption"]:
        notes.append("has no caption: run  luthier prompts  on the folder, or write one.")
    elif shortened(said["caption"]) != said["caption"]:
        notes.append("its caption is kept whole; the prompt file has what ACE-Step v1 can take.")
    for ours, theirs in (("keyscale", "keyscale"), ("timesignature", "timesignature")):
        if sample.get(theirs) and said[ours] is None:
            notes.append(f"{theirs} {sample[theirs]!r} is not understood, and kept for export.")
    return [f"{track_id}: {note}" for note in notes]


def _write_track(
    folder: Path, track_id: str, said: Mapping[str, Any], origin: Mapping[str, Any]
) -> None:
    audio = Path(said["filename"])
    (folder / f"{track_id}{audio.suffix.lower()}").symlink_to(audio)
    caption = said["caption"]
    if caption:
        write_text(folder / f"{track_id}_prompt.txt", shortened(caption) + "\n")
    write_text(folder / f"{track_id}_lyrics.txt", said["lyrics"] + "\n")
    facts = {name: said[name] for name in ("bpm", "keyscale", "timesignature", "duration")}
    facts |= {name: said[name] for name in ("language", "instrumental")}
    if facts["duration"] is None:
        samples, rate = read_audio(audio)
        facts["duration"] = round(samples.shape[1] / rate, 3)
    facts |= {"caption": caption, "style_ids": [DEFAULT_STYLE], "needs_review": True}
    if caption and shortened(caption) != caption:
        facts["caption_full"] = caption
    write_json(folder / facts_name(track_id), {**facts, "acestep": dict(origin)})
