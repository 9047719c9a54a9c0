"""ACE-Step 1.5's data set file + licence records → a data set to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from luthier.errors import DatasetError
from luthier.files import temporary_folder
from luthier.music.dataset.acestep_import import import_acestep
from luthier.music.dataset.acestep_json import read_acestep, sample_facts
from luthier.music.dataset.acestep_places import require_below
from luthier.music.dataset.build import (
    STAGE,
    BuildSettings,
    DatasetSummary,
    build_dataset,
    metadata_files,
)
from luthier.output_folder import check_output
from luthier.progress import SILENT, Display


def build_acestep(
    path: Path,
    metadata_dir: Path,
    output_dir: Path,
    settings: BuildSettings | None = None,
    *,
    below: Sequence[Path] = (),
    display: Display = SILENT,
) -> tuple[DatasetSummary, tuple[str, ...]]:
    """Import the file into a folder that is gone afterwards, and build from there.

    Args:
        path: the JSON file; every sample needs a caption.
        metadata_dir: `sources.json`, by track id (the recording's name without suffix).
        output_dir: as for `build_dataset`, like `settings`.
        below: folders that recordings must lie in; empty for anywhere.
        display: shows the tracks.

    Returns:
        The figures of the data set, and what could not be taken over as it stood.

    Raises:
        LicenceError: a track has no record that allows AI training.
        DatasetError, PathError: see the message.
    """
    file = read_acestep(path)
    require_below(file, below)
    check_output(output_dir, STAGE, [path, *metadata_files(metadata_dir)])
    facts = [sample_facts(sample, file) for sample in file.samples]
    silent = [Path(said["filename"]).name for said in facts if not said["caption"]]
    if silent:
        raise DatasetError(
            f"{len(silent)} samples of {path.name} have no caption, first {silent[0]}: label them "
            "with  luthier dataset label-json"
        )
    with temporary_folder() as temporary:
        folder = temporary / "tracks"
        report = import_acestep(path, folder, display=display)
        summary = build_dataset(folder, metadata_dir, output_dir, settings, display=display)
    return summary, report.notes
