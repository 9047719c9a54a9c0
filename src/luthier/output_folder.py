"""What a command may replace: the one rule, in one place.

A folder that is there and not empty is replaced only when its `run.json` says that the same stage
made it, when everything in it is on the list that this stage left there, and when nothing that is
read lies in it or around it. Whatever else lies at an output place stays, and the command is
refused in a sentence before it works.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError, OutputError
from luthier.files import atomic_folder, check_name, read_json, sha256_of, write_json

RECORD_NAME = "run.json"
MODEL = "model"
_LISTED = "files"  # the field of a record that names what the stage wrote
_MANIFESTS = ("manifest.json", "dataset_manifest.json")
# What desktops put into every folder that is looked at; it is nobody's work.
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
# Of folders made before records had a list: what their manifests do not name.
_UNLISTED = {RECORD_NAME, "README.md", "report.json", *_MANIFESTS} | {
    f"{split}/{name}"
    for split in ("train", "validation")
    for name in ("data-00000-of-00001.arrow", "state.json", "dataset_info.json")
}
_NAMED = 3  # foreign files that a refusal names


def stage_of(folder: Path) -> str | None:
    """The stage that made `folder`, by its `run.json`; None when luthier did not make it.

    A model that was saved and not merged has no record, but a manifest: its stage is MODEL.
    """
    stage = _record(folder).get("stage")
    if isinstance(stage, str):
        return stage
    is_model = (folder / "luthier.json").is_file() and bool(_object(folder / _MANIFESTS[0]))
    return MODEL if is_model and not (folder / RECORD_NAME).exists() else None


def refuse_overlap(path: Path, inputs: Iterable[Path]) -> None:
    """Raise `OutputError` where an input is `path`, lies in it, or has it inside; links count as
    what they lead to.
    """
    target = _real(path)
    for given in inputs:
        source = _real(given)
        if target == source or target in source.parents:
            raise OutputError(
                f"{path} would be replaced, but {given}, which is read, "
                f"{'is that folder' if target == source else 'lies in it'}: choose another folder."
            )
        if source in target.parents and source.is_dir():
            raise OutputError(
                f"{path} would be replaced, but it lies in {given}, which is read: choose a folder "
                "outside of it."
            )


def check_output(
    path: Path, stage: str | None, inputs: Iterable[Path] = (), *, extra: Collection[str] = ()
) -> None:
    """Refuse, before any work, an output folder that may not be replaced; touch nothing.

    Args:
        path: where the folder will be.
        stage: what writes it, as its `run.json` says; None: it has to be new or empty.
        inputs: files and folders that are read.
        extra: names that other stages of luthier leave in such a folder.

    Raises:
        OutputError: something there is not ours, or an input is concerned.
    """
    check_name(path)
    refuse_overlap(path, inputs)
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"{path} is a file, but a folder is needed there.")
    _check_place(path)
    if is_empty(path):
        return
    if stage is None:
        raise OutputError(f"{path} exists and is not empty: choose another folder.")
    found = stage_of(path)
    if found != stage:
        what = f"is what  luthier {found}  made" if found else "holds other files"
        what = "is a model" if found == MODEL else what
        raise OutputError(
            f"{path} exists and is not empty: choose another folder. It {what}{_examples(path)}; "
            "only an earlier result of the same command is replaced."
        )
    if foreign := foreign_files(path, extra):
        raise OutputError(
            f"{path} would be replaced, but {told(foreign)} in it: luthier did not write that. "
            "Move it away, or choose another folder."
        )


def is_empty(folder: Path) -> bool:
    """Whether nothing but a desktop's litter lies in a folder."""
    with os.scandir(folder) as entries:
        return all(entry.name in _LITTER for entry in entries)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # of a circle of links too, where Path.resolve raises


def _check_place(path: Path) -> None:
    target, here = _real(path), Path.cwd()
    if target == here or target in here.parents:
        raise OutputError(
            f"{path} is the working folder, or around it, and would be replaced as a whole: name a "
            "folder of its own."
        )
    if os.path.ismount(target):
        raise OutputError(
            f"{path} is where a disk is mounted, and cannot be replaced as a whole: name a folder "
            "in it."
        )


@contextmanager
def output_folder(
    path: Path, stage: str | None, inputs: Collection[Path] = (), *, extra: Collection[str] = ()
) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path`, under the rule of `check_output`.

    The record that the block writes (`provenance.write_run`) gets the list of the files beside it,
    by which the next run knows what may go. What came into the old folder meanwhile is kept: then
    the new one is refused.
    """
    check_output(path, stage, inputs, extra=extra)
    with atomic_folder(path) as folder:
        yield folder
        _list_files(folder)
        check_output(path, stage, inputs, extra=extra)


def _list_files(folder: Path) -> None:
    record = folder / RECORD_NAME
    if record.is_file():
        names = [name for name in _entries(folder) if name != RECORD_NAME]
        write_json(record, {**read_json(record), _LISTED: names})


def foreign_files(folder: Path, extra: Collection[str] = ()) -> list[str]:
    """What lies in `folder` and is not listed by its record, by name below it, sorted."""
    record = _record(folder)
    listed = record.get(_LISTED)
    ours = {RECORD_NAME, *extra}
    ours |= set(map(str, listed)) if isinstance(listed, list) else _before_lists(folder)
    return [name for name in _entries(folder) if name not in ours]


def _before_lists(folder: Path) -> set[str]:
    """What a folder's manifest names, with the hash that it has: of folders without a list."""
    ours = set(_UNLISTED)
    for manifest in _MANIFESTS:
        document = _object(folder / manifest)
        groups = [document.get("files"), *_values(document.get("models"))]
        for group in groups:
            for name, entry in (group if isinstance(group, dict) else {}).items():
                ours.add(name)
                beside = entry.get("external_files") if isinstance(entry, dict) else None
                ours |= set(map(str, beside)) if isinstance(beside, list) else set()
    return ours


def _entries(folder: Path) -> list[str]:
    """Every file and link below `folder`, and every empty folder; links are not followed."""
    found = []
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        links = [name for name in folders if (here / name).is_symlink()]
        found += [here / name for name in (*names, *links) if name not in _LITTER]
        if not folders and not names and here != folder:
            found.append(here)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def told(names: list[str]) -> str:
    """The first names, and how many more there are, with the verb that fits."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} {'lies' if len(names) == 1 else 'lie'}"


def _examples(path: Path) -> str:
    names = [name for name in _first_names(path) if name not in _LITTER]
    return f" ({', '.join(names)})" if names else ""


def _first_names(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path))[:_NAMED]
    except OSError:
        return []


def check_shared(
    path: Path, stage: str, writes: Collection[str] = (), inputs: Iterable[Path] = ()
) -> None:
    """Refuse a folder that `stage` would add files to where that would cost something.

    What else lies there stays as it is: such a stage replaces no folder, but its own files.

    Args:
        path: the folder, which may be missing.
        stage: what adds to it, as its `run.json` says.
        writes: the fixed names that it writes besides; ours where the record is.
        inputs: folders that are read, and may not get files.

    Raises:
        OutputError: `path` is a file, or belongs to another stage, or one of the names is taken by
            what luthier did not write there, or it lies in an input.
    """
    check_name(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file, but a folder is needed there.")
    target = _real(path)
    for given in inputs:
        if _real(given) in (target, *target.parents):
            raise OutputError(
                f"{path} lies in {given}, which is read, or is that folder: choose another one."
            )
    found = stage_of(path)
    if found == stage:
        return
    if found is not None:
        what = "a model" if found == MODEL else f"the result of  luthier {found} "
        raise OutputError(f"{path} is {what}, and {stage} writes no files into it: choose another.")
    taken = [name for name in (RECORD_NAME, *writes) if os.path.lexists(path / name)]
    if taken:
        raise OutputError(
            f"{told(taken)} in {path}, would be written over, and luthier did not make it: choose "
            "another folder."
        )


def check_output_file(path: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over a file that is read, under whatever name; or within a folder that is
    read, over one that is there.

    Raises:
        OutputError: an input would be lost, `path` is a folder, or its name is too long.
    """
    check_name(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder, but a file is to be written there.")
    if not path.exists():
        return
    for given in inputs:
        same = given.is_file() and os.path.samefile(given, path)
        if same or (given.is_dir() and _real(given) in _real(path).parents):
            raise OutputError(
                f"{path} is read by this command and would be written over: choose another name."
            )


def check_own_file(path: Path, record: Path) -> None:
    """Refuse to write over a file that the record beside it is not about, or over such a record.

    Raises:
        OutputError: the file has no record, or is another than the one that was recorded.
    """
    if os.path.lexists(record) and not isinstance(_object(record).get("stage"), str):
        raise OutputError(
            f"{record} is no record of luthier and would be written over: choose another name."
        )
    if not os.path.lexists(path):
        return
    digest = _object(record).get("sha256")
    if not record.is_file() or (isinstance(digest, str) and not is_as_recorded(path, digest)):
        raise OutputError(
            f"{path} is there already and is not what luthier wrote: choose another name, or move "
            "it away."
        )


def is_as_recorded(path: Path, digest: object) -> bool:
    """Whether the file at `path` still has the sha256 that was recorded of it."""
    return path.is_file() and not path.is_symlink() and sha256_of(path) == digest


def _record(folder: Path) -> dict[str, Any]:
    return _object(folder / RECORD_NAME)


def _object(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except LuthierError:
        return {}
    return found if isinstance(found, dict) else {}


def _values(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []
