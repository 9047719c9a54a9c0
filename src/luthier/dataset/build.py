"""A prepared folder + licence records → a Hugging Face data set on disk, and its rows back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from luthier.dataset.card import write_card
from luthier.dataset.rows import Row, dataset_hash, read_metadata, read_rows, split_tracks
from luthier.dataset.sources import SOURCES_NAME, require_licences
from luthier.dataset.styles import StylePreset, find, load_presets
from luthier.errors import DatasetError, MissingExtraError, PathError, RequestError
from luthier.files import atomic_folder, existing_folder, read_json, sha256_of, write_json
from luthier.provenance import input_record, write_run

MANIFEST_NAME = "dataset_manifest.json"
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class DatasetSummary:
    """What a build made. Sample counts are after repetition, hours are of the tracks once."""

    train_samples: int
    validation_samples: int
    total_duration_hours: float
    dataset_hash: str
    output_path: str
    unique_tracks: int


def build_dataset(
    data_dir: Path,
    metadata_dir: Path,
    output_dir: Path,
    *,
    validation_split: float = 0.1,
    repeat_count: int = 200,
    seed: int = 42,
    presets: Mapping[str, StylePreset] | None = None,
) -> DatasetSummary:
    """Write `train/` and `validation/` as plain `datasets.Dataset` folders, a manifest and a card.

    Args:
        data_dir: audio with `{name}_prompt.txt`, `{name}_lyrics.txt` and `{name}.json` each.
        metadata_dir: `sources.json` (licences) and optionally `style_mapping.json`.
        output_dir: replaced as a whole if it is a data set; anything else there is refused.
        validation_split: share of tracks held out, 0..0.5; split by track, before repetition.
        repeat_count: how often training takes each track in a pass; recorded, costs no storage.
        seed: of the split.
        presets: the styles that exist; None takes luthier's own.

    Raises:
        LicenceError: a track has no record that allows AI training; nothing is written.
        DatasetError, PathError, RequestError: see the message.
    """
    if not 0 <= validation_split <= 0.5:
        raise RequestError(f"validation split is a share from 0 to 0.5, not {validation_split:g}.")
    if repeat_count < 1:
        raise RequestError(f"repeat count is 1 or more, not {repeat_count}.")
    existing_folder(data_dir, "data folder")
    _refuse_foreign(output_dir)
    sources, mapping = read_metadata(metadata_dir)
    rows = read_rows(data_dir, sources, mapping)
    licences = require_licences([row["keys"] for row in rows], sources)
    _check_styles(rows, presets or load_presets())
    train, validation = split_tracks(rows, validation_split, seed)
    summary = DatasetSummary(
        train_samples=len(train) * repeat_count,
        validation_samples=len(validation),
        total_duration_hours=round(sum(row["duration"] for row in rows) / 3600, 4),
        dataset_hash=dataset_hash(train, validation),
        output_path=str(output_dir),
        unique_tracks=len(rows),
    )
    config = {
        "validation_split": validation_split,
        "repeat_count": repeat_count,
        "seed": seed,
    }
    with atomic_folder(output_dir) as folder:
        _save(folder / "train", train)
        _save(folder / "validation", validation)
        used = [s for s in sources if set(s.track_ids) & {row["keys"] for row in rows}]
        write_json(folder / MANIFEST_NAME, _manifest(summary, rows, config, licences))
        write_card(folder / "README.md", rows, used, asdict(summary))
        inputs = [input_record(metadata_dir / SOURCES_NAME), *_audio_records(data_dir, rows)]
        write_run(
            folder,
            stage="dataset",
            inputs=inputs,
            config=config,
            seeds={"split": seed},
            licences=licences,
            name=output_dir.name,
        )
    return summary


def load_rows(dataset_dir: Path, split: str) -> list[Row]:
    """The rows of "train" or "validation", each track once; see `load_manifest` for repetition."""
    if split not in SPLITS:
        raise RequestError(f"a split is one of {', '.join(SPLITS)}, not {split!r}.")
    load_manifest(dataset_dir)
    datasets = _datasets()
    try:
        rows: list[Row] = datasets.load_from_disk(str(dataset_dir / split)).to_list()
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{dataset_dir / split} cannot be read as a data set: {error}"
        ) from error
    return rows


def load_manifest(dataset_dir: Path) -> dict[str, Any]:
    """The manifest of a data set that `build_dataset` wrote, with `repeat_count` and the hash."""
    existing_folder(dataset_dir, "data set")
    if not (dataset_dir / MANIFEST_NAME).is_file():
        raise DatasetError(
            f"{dataset_dir} is not a data set: it has no {MANIFEST_NAME}. "
            "Make one with  luthier dataset build"
        )
    manifest: dict[str, Any] = read_json(dataset_dir / MANIFEST_NAME)
    return manifest


def check_dataset(dataset_dir: Path) -> list[str]:
    """Everything that is wrong with a data set, a sentence each; empty when it is sound.

    Every audio file is hashed: gone, changed and leaked (in both splits) tracks are found.
    """
    manifest = load_manifest(dataset_dir)
    train, validation = (load_rows(dataset_dir, split) for split in SPLITS)
    problems = []
    if not train:
        problems.append("there are no training tracks.")
    for row in [*train, *validation]:
        path = Path(row["filename"])
        if not path.is_file():
            problems.append(f"{row['keys']}: {path} is gone.")
        elif sha256_of(path) != row["sha256"]:
            problems.append(f"{row['keys']}: {path} has changed since the data set was built.")
    leaked = {row["sha256"] for row in train} & {row["sha256"] for row in validation}
    problems += [f"{digest[:12]} is in both splits." for digest in sorted(leaked)]
    if dataset_hash(train, validation) != manifest["hash"]:
        problems.append("the rows are not those that the manifest's hash was taken of.")
    return problems


def _datasets() -> Any:
    if find_spec("datasets") is None:
        raise MissingExtraError("a data set", "train")
    import datasets

    # Its bars would write across ours; saving a few hundred rows takes no time.
    datasets.disable_progress_bars()
    return datasets


def _save(folder: Path, rows: Sequence[Row]) -> None:
    datasets = _datasets()
    text = datasets.Value("string")
    features = datasets.Features(
        {
            **dict.fromkeys(("keys", "filename"), text),
            "tags": [text],
            **dict.fromkeys(("speaker_emb_path", "norm_lyrics"), text),
            "recaption": {},
            **dict.fromkeys(("caption", "lyrics"), text),
            "bpm": datasets.Value("float64"),
            **dict.fromkeys(("keyscale", "timesignature"), text),
            "duration": datasets.Value("float64"),
            "style_ids": [text],
            **dict.fromkeys(("source_id", "language"), text),
            "instrumental": datasets.Value("bool"),
            "sha256": text,
        }
    )
    columns = {name: [row[name] for row in rows] for name in features}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(folder))


def _manifest(
    summary: DatasetSummary,
    rows: Sequence[Row],
    config: Mapping[str, Any],
    licences: Sequence[str],
) -> dict[str, Any]:
    styles = Counter(style for row in rows for style in row["style_ids"])
    train = summary.train_samples // config["repeat_count"]
    return {
        "dataset_id": summary.dataset_hash[:12],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "track_count": len(rows),
        "train_count": train,
        "validation_count": len(rows) - train,
        "total_duration": summary.total_duration_hours,
        "style_distribution": dict(sorted(styles.items())),
        "licences": list(licences),
        "hash": summary.dataset_hash,
        **config,
    }


def _audio_records(data_dir: Path, rows: Sequence[Row]) -> list[dict[str, str]]:
    """The folder when its own `run.json` leads further back, else every file."""
    if (data_dir / "run.json").is_file():
        return [input_record(data_dir)]
    return [input_record(Path(row["filename"]), row["sha256"]) for row in rows]


def _check_styles(rows: Sequence[Row], presets: Mapping[str, StylePreset]) -> None:
    for row in rows:
        for style in row["style_ids"]:
            find(style, presets)


def _refuse_foreign(output_dir: Path) -> None:
    """Replacing a whole folder is only right where that folder is a data set of ours."""
    if not output_dir.exists() or (output_dir / MANIFEST_NAME).is_file():
        return
    if not output_dir.is_dir():
        raise PathError(f"{output_dir} is a file, but the data set needs a folder.")
    if any(output_dir.iterdir()):
        raise PathError(
            f"{output_dir} holds other files and would be replaced: choose an empty or new folder."
        )
