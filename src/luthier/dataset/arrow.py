"""Rows ↔ a folder that `datasets.load_from_disk` opens, with repetition that costs no storage.

Such a folder is Arrow streams, a `state.json` that lists them and a `dataset_info.json` that says
what the columns are. It is written here with pyarrow, for two reasons. Listing the same file again
is a longer data set of the same bytes: a reader maps it once a mention and concatenates without
copying, so ACE-Step v1's trainer, which takes a row a sample, sees every repeat. And `datasets` 4
and later describe a list of strings in words that 3.x, which that trainer pins, does not know;
the older words are understood by both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from luthier.errors import DatasetError, MissingExtraError
from luthier.files import read_json, write_json

Row = dict[str, Any]
_STATE_NAME, _INFO_NAME = "state.json", "dataset_info.json"
_ARROW_NAME = "data-00000-of-00001.arrow"

# ACE-Step v1's loader reads the first six columns; the others are ours.
_TEXT, _TEXTS, _STRUCT, _NUMBER, _TRUTH = "string", "strings", "struct", "float64", "bool"
_COLUMNS = {
    "keys": _TEXT, "filename": _TEXT, "tags": _TEXTS, "speaker_emb_path": _TEXT,
    "norm_lyrics": _TEXT, "recaption": _STRUCT,
    "caption": _TEXT, "lyrics": _TEXT, "bpm": _NUMBER, "keyscale": _TEXT, "timesignature": _TEXT,
    "duration": _NUMBER, "style_ids": _TEXTS, "source_id": _TEXT, "language": _TEXT,
    "instrumental": _TRUTH, "sha256": _TEXT, "extra": _TEXT,
}  # fmt: skip


def save_split(folder: Path, rows: Sequence[Row], *, repeats: int = 1, identity: str = "") -> None:
    """Write `rows`, to be read `repeats` times over.

    Args:
        folder: is made.
        rows: each track once.
        repeats: 1 or more.
        identity: what tells the content from any other; caches of `datasets` go by it.
    """
    arrow = _pyarrow()
    folder.mkdir()
    table = arrow.table({name: [row[name] for row in rows] for name in _COLUMNS}, schema=_schema())
    # Python opens the file: of a full disk its error says more than pyarrow's.
    target = (folder / _ARROW_NAME).open("wb")
    with target, arrow.ipc.new_stream(target, table.schema) as stream:
        stream.write_table(table)
    texts = dict.fromkeys(("citation", "description", "homepage", "license"), "")
    write_json(folder / _INFO_NAME, {**texts, "features": _features()})
    write_json(
        folder / _STATE_NAME,
        {
            "_data_files": [{"filename": _ARROW_NAME}] * (repeats if rows else 1),
            "_fingerprint": f"{identity[:16]}-{folder.name}-{repeats}",
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        },
    )


def read_split(folder: Path) -> tuple[list[Row], int]:
    """The rows of a folder, each once, and how many samples a reader that counts repeats sees.

    Raises:
        DatasetError: it is not a saved data set, or is damaged.
    """
    arrow = _pyarrow()
    try:
        set(read_json(folder / _INFO_NAME)["features"])  # not needed here, but by other readers
        files = [str(entry["filename"]) for entry in read_json(folder / _STATE_NAME)["_data_files"]]
        tables = {}
        for name in dict.fromkeys(files):
            with arrow.memory_map(str(folder / name)) as source:
                tables[name] = arrow.ipc.open_stream(source).read_all()
            tables[name].validate(full=True)  # wrong offsets would read outside the file
        rows = [row for table in tables.values() for row in table.to_pylist()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DatasetError(f"{folder} cannot be read as a data set: {error}") from error
    return rows, sum(tables[name].num_rows for name in files)


def _pyarrow() -> Any:
    if find_spec("pyarrow") is None:
        raise MissingExtraError("a data set", "train")
    import pyarrow
    import pyarrow.ipc

    return pyarrow


def _schema() -> Any:
    arrow = _pyarrow()
    kinds = {
        _TEXT: arrow.string(),
        _TEXTS: arrow.list_(arrow.string()),
        _STRUCT: arrow.struct([]),
        _NUMBER: arrow.float64(),
        _TRUTH: arrow.bool_(),
    }
    described = json.dumps({"info": {"features": _features()}})
    fields = [(name, kinds[kind]) for name, kind in _COLUMNS.items()]
    return arrow.schema(fields, metadata={"huggingface": described})


def _features() -> dict[str, Any]:
    """The columns in the words of `datasets`; a list of strings in those of its version 3."""

    def value(kind: str) -> dict[str, str]:
        return {"dtype": kind, "_type": "Value"}

    return {
        name: [value(_TEXT)] if kind == _TEXTS else {} if kind == _STRUCT else value(kind)
        for name, kind in _COLUMNS.items()
    }
