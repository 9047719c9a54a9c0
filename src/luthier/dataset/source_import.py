"""Editing `sources.json`: add a record, or import many from a spreadsheet (CSV).

All or nothing: the file is written once, atomically and under the folder's lock, after every record
was found valid.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from luthier.dataset.json_locations import Document, raise_problems, read_document
from luthier.dataset.metadata_lock import metadata_lock
from luthier.dataset.sources import SOURCES_NAME, SourceRecord, records_by_track, sources_of
from luthier.errors import DatasetError, PathError
from luthier.files import write_json
from luthier.spelling import nearest

COLUMNS = tuple(SourceRecord.model_fields)
_REQUIRED = tuple(n for n, field in SourceRecord.model_fields.items() if field.is_required())
_LISTS = ("track_ids", "cc_flags")  # several in one cell, by semicolons
_PERMISSION: Mapping[str, bool | None] = {
    **dict.fromkeys(("true", "yes", "1"), True),
    **dict.fromkeys(("false", "no", "0"), False),
    **dict.fromkeys(("unknown", "?", ""), None),
}


def add_records(
    metadata_dir: Path,
    records: Sequence[SourceRecord],
    *,
    replace: bool = False,
    dry_run: bool = False,
) -> list[SourceRecord]:
    """Add records to the folder's `sources.json` (made when missing); return all that it has then.

    Args:
        metadata_dir: made when missing.
        records: valid ones, of different ids.
        replace: let a record take the place of the one with its id.
        dry_run: check, but write nothing.

    Raises:
        DatasetError: an id is there already, or a track has another owner; nothing is written.
    """
    path = metadata_dir / SOURCES_NAME
    if dry_run:
        return _merged(_document(path), records, replace)[1]
    with metadata_lock(metadata_dir):
        value, sources = _merged(_document(path), records, replace)
        write_json(path, value)
    return sources


def _document(path: Path) -> Document:
    return read_document(path) if path.exists() else Document(path, "[]", [])


def _merged(
    document: Document, records: Sequence[SourceRecord], replace: bool
) -> tuple[Any, list[SourceRecord]]:
    """The new value of the file, in the form that it had, and its records."""
    given = {record.source_id for record in records}
    before = sources_of(document)
    problems = [
        f"{document.path} has the source {source.source_id!r} already: choose another id, or "
        "say that it is to be replaced (--replace)."
        for source in before
        if source.source_id in given and not replace
    ]
    kept = [source for source in before if source.source_id not in given]
    owners = records_by_track([*kept, *records])
    for record in records:
        for track_id in record.track_ids:
            others = [s.source_id for s in owners[track_id] if s is not record]
            problems += [
                f"{record.source_id}: the track {track_id!r} belongs to {other!r} already."
                for other in others
            ]
    raise_problems(problems)
    rows = [record.to_row() for record in records]
    if isinstance(document.value, dict):
        by_track = {
            name: row
            for name, row in document.value.items()
            if row.get("source_id", name) not in given
        }
        for row in rows:
            facts = {name: value for name, value in row.items() if name != "track_ids"}
            by_track |= {track_id: facts for track_id in row["track_ids"]}
        return by_track, [*kept, *records]
    old = [row for row in document.value if row["source_id"] not in given]
    return [*old, *rows], [*kept, *records]


def read_csv(path: Path) -> list[SourceRecord]:
    """The records of a CSV file with the columns of `SourceRecord`, in any order.

    Lines with the same source id are one source with the tracks of all. Lists are separated by
    semicolons; `ai_training_allowed` is yes, no or unknown.

    Raises:
        PathError: the file cannot be read.
        DatasetError: every wrong line, by file and line number.
    """
    lines = _csv_lines(path)
    if not lines:
        raise DatasetError(f"{path}:1: there is no header; columns are {', '.join(COLUMNS)}.")
    header = [name.strip() for name in lines[0][1]]
    _check_header(path, header)
    problems: list[str] = []
    found: dict[str, tuple[int, SourceRecord]] = {}
    for number, cells in lines[1:]:
        where = f"{path}:{number}"
        if len(cells) != len(header):
            problems.append(f"{where}: {len(cells)} cells, but the header has {len(header)}.")
            continue
        try:
            record = _record(dict(zip(header, cells, strict=True)))
        except ValidationError as error:
            problems += [f"{where}: {_said(row)}." for row in error.errors()]
            continue
        first, known = found.get(record.source_id, (number, record))
        if known.model_copy(update={"track_ids": record.track_ids}) != record:
            problems.append(
                f"{where}: the source {record.source_id!r} differs from that on line {first}."
            )
        elif known is not record:
            again = sorted(set(known.track_ids) & set(record.track_ids))
            problems += [
                f"{where}: the track {t!r} stood on an earlier line already." for t in again
            ]
            record = known.model_copy(update={"track_ids": known.track_ids + record.track_ids})
        found[record.source_id] = (first, record)
    raise_problems(problems)
    return [record for _, record in found.values()]


def _csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PathError(f"{path} does not exist.") from None
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not UTF-8: byte {error.start}. Save it as CSV UTF-8."
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines, start = [], 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(f"{path}:{reader.line_num}: this is not CSV: {error}.") from error
    return lines


def _check_header(path: Path, header: Sequence[str]) -> None:
    problems = []
    for name in header:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"columns are {', '.join(COLUMNS)}."
            problems.append(f"{path}:1: there is no column {name!r}: {hint}")
        elif header.count(name) > 1:
            problems.append(f"{path}:1: the column {name!r} is there twice.")
    lacking = [name for name in _REQUIRED if name not in header]
    if lacking:
        problems.append(f"{path}:1: the columns {', '.join(lacking)} are missing.")
    raise_problems(list(dict.fromkeys(problems)))


def _record(cells: Mapping[str, str]) -> SourceRecord:
    row: dict[str, Any] = {}
    for name, cell in cells.items():
        text = cell.strip()
        if name in _LISTS:
            row[name] = [part.strip() for part in text.split(";") if part.strip()]
        elif name == "ai_training_allowed":
            row[name] = _PERMISSION.get(text.lower(), text)
        elif text or name in _REQUIRED:
            row[name] = text
    return SourceRecord.model_validate(row)


def _said(problem: Mapping[str, Any]) -> str:
    field = str(problem["loc"][0]) if problem["loc"] else ""
    if field == "ai_training_allowed":
        return f"{field} is {problem['input']!r}, but should be yes, no or unknown"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    return f"{field}: {reason}, not {problem['input']!r}" if field else reason


def record_from(row: Mapping[str, Any]) -> SourceRecord:
    """A record of plain values; `DatasetError` says what is wrong with each."""
    try:
        return SourceRecord.model_validate(row)
    except ValidationError as error:
        raise_problems([f"{_said(problem)}." for problem in error.errors()])
        raise


def require_known_tracks(records: Sequence[SourceRecord], track_ids: Iterable[str]) -> None:
    """Raise `DatasetError` naming every track of the records that there is not, and the nearest."""
    known = set(track_ids)
    raise_problems(
        [
            f"{record.source_id}: there is no track {track_id!r}; the nearest is "
            f"{nearest(track_id, known)!r}."
            for record in records
            for track_id in record.track_ids
            if track_id not in known
        ]
    )
