"""A built data set → everything that is wrong with it, before a graphics card is paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.dataset.arrow import read_split
from luthier.dataset.licence_gate import refusals
from luthier.dataset.sources import SourceRecord
from luthier.errors import DatasetError, PathError
from luthier.files import sha256_of
from luthier.music.dataset.build import SPLITS, load_manifest
from luthier.music.dataset.rows import Row, dataset_hash
from luthier.music.dataset.v1_rules import LANGUAGES, tag_problems, v1_losses
from luthier.progress import SILENT, Display


@dataclass(frozen=True)
class DatasetCheck:
    """What a check found, a sentence each.

    Attributes:
        problems: what has to be put right before training.
        losses: what ACE-Step v1's loader alone would change or lose.
    """

    problems: tuple[str, ...]
    losses: tuple[str, ...]


def check_dataset(
    dataset_dir: Path, sources: Sequence[SourceRecord] | None = None, display: Display = SILENT
) -> DatasetCheck:
    """Find missing and changed audio, leaks between the splits, bad tags, prompts that are too
    long, unknown languages, wrong repetition, and tracks that may not train.

    Args:
        dataset_dir: what `build_dataset` wrote.
        sources: today's licence records; None leaves licences as they were when it was built.
        display: shows the hashing of the audio.

    Raises:
        PathError, DatasetError: it is not a data set, or cannot be read at all.
    """
    manifest = load_manifest(dataset_dir)
    found = {split: read_split(dataset_dir / split) for split in SPLITS}
    splits = {split: rows for split, (rows, _) in found.items()}
    samples = {split: count for split, (_, count) in found.items()}
    rows = [row for split in SPLITS for row in splits[split]]
    problems = [] if splits["train"] else ["there are no training tracks."]
    try:
        for row in rows:
            problems += _row_problems(row)
        with display.task("audio", len(rows)) as task:
            for row in rows:
                problems += _audio_problems(row)
                task.advance(note=row["keys"])
        problems += _leaks(splits) + _repetition(splits, samples, manifest)
        if dataset_hash(splits["train"], splits["validation"]) != manifest["hash"]:
            problems.append("the rows are not those that the manifest's hash was taken of.")
        losses = [f"{row['keys']}: {loss}" for row in rows for loss in v1_losses(row)]
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"the rows of {dataset_dir} are not those of a data set of luthier ({error!r}): "
            "build it again."
        ) from error
    if sources is not None:
        refused = refusals([row["keys"] for row in rows], sources)
        problems += [f"{r.track_id}: may not be trained on: {r.reason}." for r in refused]
    return DatasetCheck(tuple(problems), tuple(losses))


def _row_problems(row: Row) -> list[str]:
    problems = [f"the prompt {problem}" for problem in tag_problems(row["tags"])]
    if row["language"] not in LANGUAGES:
        problems.append(f"ACE-Step knows no language {row['language']!r}.")
    if not row["norm_lyrics"].strip():
        problems.append("the lyrics are empty: [Instrumental] stands there for none.")
    return [f"{row['keys']}: {problem}" for problem in problems]


def _audio_problems(row: Row) -> list[str]:
    path = Path(row["filename"])
    if not path.is_file():
        return [f"{row['keys']}: {path} is gone."]
    try:
        digest = sha256_of(path)
    except PathError as error:
        return [f"{row['keys']}: {error}"]
    if digest != row["sha256"]:
        return [f"{row['keys']}: {path} has changed since the data set was built."]
    return []


def _leaks(splits: Mapping[str, Sequence[Row]]) -> list[str]:
    problems = [
        f"{key}: is {count} times in {split}."
        for split, rows in splits.items()
        for key, count in Counter(row["keys"] for row in rows).items()
        if count > 1
    ]
    for name in ("keys", "sha256"):
        train, held_out = ({r[name]: r["keys"] for r in splits[split]} for split in SPLITS)
        for value in sorted(set(train) & set(held_out)):
            pair = " and ".join(dict.fromkeys((train[value], held_out[value])))
            problems.append(f"{pair}: the same recording is in both splits.")
    return list(dict.fromkeys(problems))


def _repetition(
    splits: Mapping[str, Sequence[Row]], samples: Mapping[str, int], manifest: Mapping[str, Any]
) -> list[str]:
    """Whether a trainer that takes a row a sample sees as many as the manifest says."""
    problems = []
    for split in SPLITS:
        for what, found in (("samples", samples[split]), ("count", len(splits[split]))):
            said = manifest.get(f"{split}_{what}", found)
            if found != said:
                noun = "samples" if what == "samples" else "tracks"
                problems.append(f"{split} has {found} {noun}, but the manifest says {said}.")
    return problems
