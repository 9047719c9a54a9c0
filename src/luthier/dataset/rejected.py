"""Tracks that were training-ready once and are not any more: they move to `rejected/`, with their
texts, and come back when a later run accepts them again.

What curation wrote is known by name and sha256 from its ledger. A file that somebody has put in
the place of one stays where it is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.dataset.curate_file import CurateSettings
from luthier.dataset.curation_log import Entry, Ledger
from luthier.dataset.track_names import texts_of
from luthier.dataset.tracks import REJECTED, is_audio
from luthier.files import make_folder
from luthier.output_folder import is_as_recorded


@dataclass(frozen=True)
class Moved:
    """A file that moved between the output folder and its `rejected/`."""

    output_path: str
    moved_to: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


class OutputTracks:
    """The tracks that an output folder holds, for the one run that holds its lock.

    Args:
        folder: of the output.
        ledger: what was written there.
        input_dir: where this run's sources lie.

    Attributes:
        moved: what `reject` moved, in order.
        restored: what came back.
        foreign: files that lie where luthier wrote one, and are not it.
    """

    def __init__(self, folder: Path, ledger: Ledger, input_dir: Path) -> None:
        self.folder, self.ledger, self.input_dir = folder, ledger, input_dir
        self.moved: list[Moved] = []
        self.restored: list[Moved] = []
        self.foreign: list[str] = []

    def written(self) -> Iterator[tuple[Path, Entry]]:
        """Every file that lies where the ledger says one was written, with who wrote it last."""
        for name, entry in sorted(self.ledger.owners.items()):
            path = self.folder / name
            if path.is_file():
                yield path, entry

    def is_ours(self, path: Path) -> bool:
        """Whether a file is one that was written under its name."""
        return any(is_as_recorded(path, d) for d in self.ledger.digests.get(path.name, ()))

    def reject_others(self) -> None:
        """Move out the tracks of other input folders, which are there still."""
        for path, entry in list(self.written()):
            if entry.lives_beside(self.input_dir):
                self.reject(path, "it was made of another input folder.")

    def reject_gone(self, places: Collection[str]) -> None:
        """Move out the tracks whose source is gone: not among `places`, and not elsewhere either.

        What was made of another input folder, which is still there, stays.
        """
        for path, entry in list(self.written()):
            if entry.place not in places and not entry.lives_beside(self.input_dir):
                self.reject(path, f"its source {entry.place} is gone.")

    def reject(self, path: Path, reason: str, *, texts: bool = True) -> None:
        """Move out a track, and unless `texts` is off its prompt, lyrics and facts.

        A file that is not the one that was written stays, and is noted.
        """
        if not self.is_ours(path):
            self.foreign.append(str(path))
            return
        place = make_folder(self.folder / REJECTED)
        stem = _free_stem(place, path)
        target = place / f"{stem}{path.suffix}"
        os.replace(path, target)
        if texts:
            _move_texts(self.folder, path.stem, place, stem)
        self.moved.append(Moved(str(path), str(target), reason))

    def restore(self, name: str, digest: object) -> None:
        """Bring a rejected track back where its place is free and its file is the same."""
        path, kept = self.folder / name, self.folder / REJECTED / name
        if os.path.lexists(path) or not is_as_recorded(kept, digest):
            return
        os.replace(kept, path)
        _move_texts(kept.parent, path.stem, self.folder, path.stem)
        self.restored.append(Moved(str(kept), str(path), "it is accepted again."))

    def restore_texts(self, entry: Entry, stem: str) -> None:
        """Give a track that was made anew the texts that were moved out with it before."""
        if name := entry.output:
            _move_texts(self.folder / REJECTED, Path(name).stem, self.folder, stem)


def _free_stem(folder: Path, path: Path) -> str:
    """A stem under which neither the track nor a text of it is there yet."""
    number, stem = 1, path.stem
    while any(os.path.lexists(folder / name) for name in (f"{stem}{path.suffix}", *texts_of(stem))):
        number += 1
        stem = f"{path.stem}-{number}"
    return stem


def _move_texts(folder: Path, stem: str, to: Path, new_stem: str) -> None:
    for old, new in zip(texts_of(stem), texts_of(new_stem), strict=True):
        if (folder / old).is_file() and not os.path.lexists(to / new):
            os.replace(folder / old, to / new)


def foreign_tracks(folder: Path) -> list[str]:
    """The audio in an output folder of curation that is not what was written there, by name."""
    if not folder.is_dir():
        return []
    digests = Ledger(folder, CurateSettings()).digests
    return [
        path.name
        for path in sorted(folder.iterdir())
        if is_audio(path) and not any(is_as_recorded(path, d) for d in digests.get(path.name, ()))
    ]
