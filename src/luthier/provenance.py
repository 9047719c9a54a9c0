"""`run.json` beside every artefact: what it was made from, with what, under which licences.

`luthier trace` reads it back.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from luthier import __version__
from luthier.errors import LuthierError, PathError
from luthier.files import check_name, read_json, sha256_of, write_json
from luthier.output_folder import check_output_file, check_own_file

State = Literal["", "same", "changed", "missing", "shown"]
_ALARMS = ("changed", "missing")
_PINS = ("run.json", "manifest.json")  # of an artefact, and of a folder of ONNX graphs
_LIBRARIES = ("numpy", "onnxruntime", "av", "soxr", "torch", "diffusers", "transformers", "peft")


def run_path(artefact: Path) -> Path:
    """Where the record of `artefact` lies: in a folder, or beside a file as `<name>.run.json`."""
    return (
        artefact / "run.json"
        if artefact.is_dir()
        else artefact.with_name(artefact.name + ".run.json")
    )


def library_versions() -> dict[str, str]:
    """Versions of luthier, Python and the libraries that shape results, where installed."""
    return {"luthier": __version__, "python": platform.python_version()} | {
        name: found for name in _LIBRARIES if (found := _installed(name)) is not None
    }


@cache
def _installed(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def input_record(path: Path, digest: str | None = None) -> dict[str, str]:
    """One input by absolute path and sha256; a folder with a `run.json` is hashed by that."""
    if digest is None:
        record = path / "run.json"
        digest = sha256_of(record if path.is_dir() and record.is_file() else path)
    return {"path": str(path.resolve()), "sha256": digest} | _hub_record(path)


def _hub_record(path: Path) -> dict[str, str]:
    """Of a folder that was put together of repositories of the hub: which, at which commits."""
    from luthier.hub_models import origin_of

    rows = origin_of(path)
    if not rows:
        return {}
    named = [f"{row['repository']}@{row['commit']}" for row in rows]
    licences = dict.fromkeys(row["licence"] for row in rows)
    return {"hub": ", ".join(named), "licence": ", ".join(licences)}


def check_artefact(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work, a file whose place is not free; touch nothing.

    Raises:
        OutputError: it is read, or is not what luthier wrote there, or its name leaves no room for
            that of its record.
    """
    check_name(path, ".run.json")
    check_output_file(path, inputs)
    check_own_file(path, run_path(path))


def write_run(
    artefact: Path,
    *,
    stage: str,
    inputs: Iterable[Path | Mapping[str, str]] = (),
    config: Mapping[str, Any] | None = None,
    seeds: Mapping[str, int] | None = None,
    licences: Iterable[str] = (),
    name: str | None = None,
    content: Path | None = None,
) -> Path:
    """Write the record of `artefact` (a file or a folder that exists).

    Args:
        artefact: what was made.
        stage: the luthier verb that made it, e.g. "curate".
        inputs: paths (hashed here) or ready records from `input_record`.
        config: the resolved configuration, JSON-serialisable.
        seeds: every random seed that was used, by name.
        licences: the licences of the material that went in.
        name: what the artefact will be called, while it still has a temporary name.
        content: where its bytes are, while they have not got their name yet.
    """
    path, made = run_path(artefact), content or artefact
    write_json(
        path,
        {
            "stage": stage,
            "artefact": name or artefact.name,
            # By which a later run knows whether the file is still the one that was made.
            **({"sha256": sha256_of(made)} if made.is_file() else {}),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "inputs": [input_record(i) if isinstance(i, Path) else dict(i) for i in inputs],
            "config": dict(config or {}),
            "seeds": dict(seeds or {}),
            "licences": sorted(set(licences)),
            "versions": library_versions(),
        },
    )
    return path


class Traced(NamedTuple):
    """One step of the way back: how deep, which file or folder, its record, and its state.

    The record is empty for a source that nobody recorded. `state` is "" for the artefact itself,
    "same" or "changed" by its sha256, "missing", or "shown" when it stands further up already.
    """

    depth: int
    path: Path
    record: dict[str, Any]
    state: State


def trace(artefact: Path, *, verify: bool = True) -> list[Traced]:
    """Walk from `artefact` back to its sources, the artefact first, depth first.

    A file without a record of its own has that of the folder it lies in. Every record is followed
    once, so that shared inputs and circles end.

    Args:
        artefact: a file or folder that luthier made.
        verify: hash what is still there and compare it with the record.

    Raises:
        PathError: the artefact does not exist, or a record is not readable.
    """
    check_name(artefact, kind=PathError)
    if not artefact.exists():
        raise PathError(f"{artefact} does not exist.")
    rows: list[Traced] = []
    followed: set[Path] = set()

    def walk(path: Path, expected: Mapping[str, str], depth: int) -> None:
        # An input was named by its stage, so it has a record or is a source: look no further up.
        found = find_record(path, nest=1 if depth else 3)
        state = _state(path, expected, verify)
        if found in followed:
            rows.append(Traced(depth, path, {}, state if state in _ALARMS else "shown"))
            return
        record = read_record(found) if found else {}
        followed.update([found] if found else [])
        rows.append(Traced(depth, path, record, state))
        beside = found.parent if found else path  # so a package's model finds its source anywhere
        for source in record.get("inputs", []):
            walk(Path(os.path.normpath(beside / source["path"])), source, depth + 1)

    walk(artefact, {}, 0)
    return rows


def _state(path: Path, expected: Mapping[str, str], verify: bool) -> State:
    if not expected:
        return ""
    if not path.exists():
        return "missing"
    if not verify:
        return ""
    return "same" if expected["sha256"] in _digests(path) else "changed"


def _digests(path: Path) -> Iterator[str]:
    """What a stage may have recorded of `path`; the costly hash of a whole folder comes last."""
    for name in _PINS:
        if (path / name).is_file():
            yield sha256_of(path / name)
    yield sha256_of(path)


def find_record(artefact: Path, nest: int = 1) -> Path | None:
    """The record of `artefact`: its own, else that of one of the `nest` folders around it."""
    around = [folder / "run.json" for folder in list(artefact.absolute().parents)[:nest]]
    # A name may leave no room for that of a record.
    return next((p for p in (run_path(artefact), *around) if os.path.isfile(p)), None)


def recorded_licences(record: Path) -> list[str]:
    """The licences that a `run.json` names; none where it is missing or no record."""
    try:
        return [str(name) for name in read_json(record).get("licences", [])]
    except (LuthierError, AttributeError):
        return []


def read_record(path: Path) -> dict[str, Any]:
    """Read a `run.json`; raise `PathError` when it is not a record."""
    record = read_json(path)
    inputs = record.get("inputs") if isinstance(record, dict) else None
    if not isinstance(inputs, list) or not all(
        isinstance(i, dict) and isinstance(i.get("path"), str) and isinstance(i.get("sha256"), str)
        for i in inputs
    ):
        raise PathError(f"{path} is not a record of luthier: it has no list of inputs.")
    return dict(record)
