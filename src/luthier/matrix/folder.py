"""The folder of a matrix: its options, a file for every cell, the audio beside them.

A cell is there when its file is whole and its audio is what it was; so a run can be killed at any
moment and gone on with by the same command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError, OutputError, RequestError
from luthier.files import check_name, make_folder, read_json, sha256_of, write_json
from luthier.matrix.grid import Cell

OPTIONS_NAME = "options.json"


class MatrixFolder:
    """Reads and writes one folder.

    Args:
        path: made when it is not there.
        options: what must be the same for cells to stand beside each other; plain values.

    Raises:
        RequestError: the folder holds a matrix with other options.
        OutputError: it holds something else.
        PathError: it cannot be written.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        check_name(path)
        self.path, self.audio, self._cells = path, path / "audio", path / "cells"
        wanted = json.loads(json.dumps(dict(options)))
        place = path / OPTIONS_NAME
        if place.is_file():
            _check_same(path, read_json(place), wanted)
        else:
            if path.is_dir() and any(path.iterdir()):
                raise OutputError(
                    f"{path} holds other things than a matrix: choose an empty folder with --out."
                )
            write_json(place, wanted)
        make_folder(self.audio)
        make_folder(self._cells)

    def row(self, cell: Cell) -> dict[str, Any] | None:
        """What was recorded of a cell; None when it is not there or not whole."""
        try:
            row = read_json(self._place(cell))
        except LuthierError:  # not there, or torn by a file system that lost power
            return None
        if not isinstance(row, dict) or row.get("name") != cell.name:
            return None
        pieces = row.get("pieces", [])
        whole = all(_is_same(self.path / piece["file"], piece["sha256"]) for piece in pieces)
        return row if whole else None

    def write(self, cell: Cell, row: Mapping[str, Any]) -> None:
        """Record a cell, as a whole or not at all."""
        write_json(self._place(cell), dict(row))

    def _place(self, cell: Cell) -> Path:
        return self._cells / f"{cell.name}.json"


def _is_same(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of(path) == digest


def _check_same(path: Path, found: Any, wanted: Any) -> None:
    if found == wanted:
        return
    for name in [*wanted, *(found if isinstance(found, dict) else ())]:
        old = found.get(name) if isinstance(found, dict) else None
        new = wanted.get(name)
        if old != new:
            raise RequestError(
                f"{path} holds a matrix whose {name} was {_said(old)}, not {_said(new)}: give the "
                "same again to go on with it, or another folder with --out."
            )


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_said, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
