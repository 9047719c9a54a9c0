"""A prepared folder + licence records → a Hugging Face data set on disk, and its rows back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from luthier.dataset.arrow import read_split, save_split
from luthier.dataset.licence_gate import require_licences
from luthier.dataset.sources import SOURCES_NAME, SourceRecord
from luthier.dataset.tracks import find_audio
from luthier.errors import DatasetError, RequestError
from luthier.files import existing_folder, read_json, write_json
from luthier.music.dataset.card import CARD_NAME, write_card
from luthier.music.dataset.prompts import MAPPING_NAME
from luthier.music.dataset.rows import Row, dataset_hash, read_metadata, read_rows
from luthier.music.dataset.split import split_tracks
from luthier.music.dataset.styles import Category, StylePreset, find, load_presets
from luthier.music.dataset.v1_rules import v1_losses
from luthier.output_folder import check_output, output_folder
from luthier.progress import SILENT, Display
from luthier.provenance import input_record, write_run
from luthier.spelling import nearest

MANIFEST_NAME = "dataset_manifest.json"
SPLITS = ("train", "validation")
STAGE = "dataset"  # in the record of what this module writes


@dataclass(frozen=True)
class BuildSettings:
    """How tracks become samples.

    Attributes:
        validation_split: share of tracks held out, 0..0.5; by track, before repetition.
        repeat_count: how often a pass takes each training track; costs no storage.
        repeat_validation: repeat the validation tracks as well.
        seed: of the split.
    """

    validation_split: float = 0.1
    repeat_count: int = 200
    repeat_validation: bool = False
    seed: int = 42

    def __post_init__(self) -> None:
        if not 0 <= self.validation_split <= 0.5:
            raise RequestError(
                f"validation split is a share from 0 to 0.5, not {self.validation_split:g}."
            )
        if self.repeat_count < 1:
            raise RequestError(f"repeat count is 1 or more, not {self.repeat_count}.")

    def repeats(self, split: str) -> int:
        """How often the rows of "train" or "validation" are read."""
        return self.repeat_count if split == "train" or self.repeat_validation else 1


@dataclass(frozen=True)
class DatasetSummary:
    """What a build made. Sample counts are after repetition, hours are of the tracks once."""

    train_samples: int
    validation_samples: int
    total_duration_hours: float
    dataset_hash: str
    output_path: str
    unique_tracks: int
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What --json prints."""
        return asdict(self) | {"warnings": list(self.warnings)}


@dataclass(frozen=True)
class DatasetPlan:
    """A data set that passed every check and is not written yet."""

    splits: Mapping[str, list[Row]]
    settings: BuildSettings
    licences: Sequence[str]
    sources: Sequence[SourceRecord]
    presets: Mapping[str, StylePreset]
    inputs: Sequence[Mapping[str, str]]
    warnings: Sequence[str]

    @property
    def rows(self) -> list[Row]:
        """Every track once."""
        return [row for split in SPLITS for row in self.splits[split]]

    def summary(self, output_dir: Path) -> DatasetSummary:
        """The figures of the data set, once it is written to `output_dir`."""
        samples = {s: len(self.splits[s]) * self.settings.repeats(s) for s in SPLITS}
        return DatasetSummary(
            train_samples=samples["train"],
            validation_samples=samples["validation"],
            total_duration_hours=round(sum(row["duration"] for row in self.rows) / 3600, 4),
            dataset_hash=dataset_hash(self.splits["train"], self.splits["validation"]),
            output_path=str(output_dir),
            unique_tracks=len(self.rows),
            warnings=tuple(self.warnings),
        )


def plan_dataset(
    data_dir: Path,
    metadata_dir: Path,
    settings: BuildSettings | None = None,
    *,
    presets: Mapping[str, StylePreset] | None = None,
    display: Display = SILENT,
) -> DatasetPlan:
    """Read and check everything; write nothing. Licences are looked at first.

    Args:
        data_dir: audio with `{name}_prompt.txt`, `{name}_lyrics.txt` and `{name}.json` each.
        metadata_dir: `sources.json` (licences) and optionally `style_mapping.json`.
        settings: None takes the defaults.
        presets: the styles that exist; None takes luthier's own.
        display: shows the hashing of the audio.

    Raises:
        LicenceError: a track has no record that allows AI training.
        DatasetError, PathError: see the message.
    """
    settings, presets = settings or BuildSettings(), presets or load_presets()
    tracks = find_audio(data_dir, "data folder")
    sources, mapping = read_metadata(metadata_dir)
    licences = require_licences(tracks, sources)
    rows, review = read_rows(data_dir, tracks, sources, mapping, display)
    for row in rows:
        for style in row["style_ids"]:
            find(style, presets)
    train, validation = split_tracks(
        rows, settings.validation_split, settings.seed, lambda s: presets[s].category
    )
    warnings = _mapping_warnings(mapping, tracks, data_dir) + _row_warnings(rows, review)
    if settings.validation_split and not validation:
        warnings.append("one recording cannot be split: nothing is held out to validate with.")
    return DatasetPlan(
        splits={"train": train, "validation": validation},
        settings=settings,
        licences=licences,
        sources=[source for source in sources if set(source.track_ids) & set(tracks)],
        presets=presets,
        inputs=[input_record(p) for p in metadata_files(metadata_dir) if p.is_file()]
        + _audio_records(data_dir, rows),
        warnings=warnings,
    )


def build_dataset(
    data_dir: Path,
    metadata_dir: Path,
    output_dir: Path,
    settings: BuildSettings | None = None,
    *,
    presets: Mapping[str, StylePreset] | None = None,
    display: Display = SILENT,
) -> DatasetSummary:
    """Write `train/` and `validation/` as plain `datasets.Dataset` folders, a manifest and a card.

    `output_dir` is replaced as a whole if it is a data set and holds nothing else; otherwise that
    is an `OutputError`. The other arguments and errors are those of `plan_dataset`; nothing is
    written on an error.
    """
    inputs = [data_dir, *metadata_files(metadata_dir)]
    check_output(output_dir, STAGE, inputs)
    plan = plan_dataset(data_dir, metadata_dir, settings, presets=presets, display=display)
    summary = plan.summary(output_dir)
    with output_folder(output_dir, STAGE, inputs) as folder:
        for split in SPLITS:
            repeats = plan.settings.repeats(split)
            identity = summary.dataset_hash
            save_split(folder / split, plan.splits[split], repeats=repeats, identity=identity)
        write_json(folder / MANIFEST_NAME, _manifest(plan, summary))
        write_card(folder / CARD_NAME, plan.rows, plan.sources, plan.presets, summary.to_json())
        write_run(
            folder,
            stage=STAGE,
            inputs=plan.inputs,
            config=asdict(plan.settings),
            seeds={"split": plan.settings.seed},
            licences=plan.licences,
            name=output_dir.name,
        )
    return summary


def metadata_files(metadata_dir: Path) -> list[Path]:
    """What of a metadata folder is read; the data set itself may lie in that folder."""
    return [metadata_dir / name for name in (SOURCES_NAME, MAPPING_NAME)]


def load_rows(dataset_dir: Path, split: str) -> list[Row]:
    """The rows of "train" or "validation", each track once; see `load_manifest` for repetition."""
    if split not in SPLITS:
        raise RequestError(f"a split is one of {', '.join(SPLITS)}, not {split!r}.")
    load_manifest(dataset_dir)
    return read_split(dataset_dir / split)[0]


def load_manifest(dataset_dir: Path) -> dict[str, Any]:
    """The manifest of a data set that `build_dataset` wrote, with `repeat_count` and the hash."""
    existing_folder(dataset_dir, "data set")
    path = dataset_dir / MANIFEST_NAME
    if not path.is_file():
        raise DatasetError(
            f"{dataset_dir} is not a data set: it has no {MANIFEST_NAME}. "
            "Make one with  luthier dataset build"
        )
    manifest: dict[str, Any] = read_json(path)
    needed = ("train_count", "validation_count", "hash")
    lacking = [n for n in needed if not isinstance(manifest, dict) or n not in manifest]
    if lacking:
        raise DatasetError(f"{path} lacks {', '.join(lacking)}: build the data set again.")
    return manifest


def _manifest(plan: DatasetPlan, summary: DatasetSummary) -> dict[str, Any]:
    styles = Counter(style for row in plan.rows for style in row["style_ids"])
    categories = Counter(plan.presets[row["style_ids"][0]].category for row in plan.rows)
    return {
        "dataset_id": summary.dataset_hash[:12],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "track_count": summary.unique_tracks,
        "train_count": len(plan.splits["train"]),
        "validation_count": len(plan.splits["validation"]),
        "train_samples": summary.train_samples,
        "validation_samples": summary.validation_samples,
        "total_duration": summary.total_duration_hours,
        "style_distribution": {name: categories[name] for name in get_args(Category)},
        "styles": dict(sorted(styles.items())),
        "licences": list(plan.licences),
        "hash": summary.dataset_hash,
        "warnings": list(summary.warnings),
        **asdict(plan.settings),
    }


def _audio_records(data_dir: Path, rows: Sequence[Row]) -> list[dict[str, str]]:
    """The folder when its own `run.json` leads further back, else every file."""
    if (data_dir / "run.json").is_file():
        return [input_record(data_dir)]
    return [input_record(Path(row["filename"]), row["sha256"]) for row in rows]


def _mapping_warnings(
    mapping: Mapping[str, Sequence[str]], tracks: Mapping[str, Path], data_dir: Path
) -> list[str]:
    strangers = sorted(set(mapping) - set(tracks))
    if not strangers:
        return []
    return [
        f"{MAPPING_NAME} names {len(strangers)} tracks that are not in {data_dir}, first "
        f"{strangers[0]!r}; the nearest there is {nearest(strangers[0], tracks)!r}."
    ]


def _row_warnings(rows: Sequence[Row], review: Sequence[str]) -> list[str]:
    warnings = []
    if review:
        shown = ", ".join(review[:5]) + (" …" if len(review) > 5 else "")
        warnings.append(f"{len(review)} tracks have a style that wants review: {shown}")
    same: dict[str, list[str]] = {}
    for row in rows:
        same.setdefault(row["sha256"], []).append(row["keys"])
    warnings += [
        f"{', '.join(keys)} are the same audio, and stay in one split."
        for keys in same.values()
        if len(keys) > 1
    ]
    return warnings + [f"{row['keys']}: {loss}" for row in rows for loss in v1_losses(row)]
