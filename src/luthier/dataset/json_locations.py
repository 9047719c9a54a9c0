"""JSON that people edit → its value, and where in the file each part of it stands.

What is wrong with a value is then said with `file:line:column`, as compilers do.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from luthier.errors import DatasetError, PathError

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_SHOWN_PROBLEMS = 20
_SHOWN_VALUE = 60  # characters
# pydantic's kinds of error -> what has to be there.
_NEEDED = {
    **dict.fromkeys(("string_type", "string_sub_type"), "a text in quotes"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list in brackets"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "an object in braces"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
        "a date such as 2026-01-31",
    ),
    "string_too_short": "a text of {min_length} or more characters",
    "string_too_long": "a text of {max_length} or fewer characters",
    "string_pattern_mismatch": "of the form {pattern}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "literal_error": "{expected}",
}

Step = str | int


@dataclass(frozen=True)
class Document:
    """A JSON file that was read: its text, and the value that the text stands for."""

    path: Path
    text: str
    value: Any

    def at(self, *steps: Step, key: bool = False) -> str:
        """`file:line:column` of what the member names and list places in `steps` lead to.

        Where they lead to nothing, of the innermost part on the way that is there.

        Args:
            steps: e.g. "presets", 3, "name".
            key: point to the last member's name instead of its value.
        """
        return self._place(_offset(self.text, steps, of_key=key))

    def _place(self, offset: int) -> str:
        line = self.text.count("\n", 0, offset) + 1
        return f"{self.path}:{line}:{offset - self.text.rfind(chr(10), 0, offset)}"


def read_document(path: Path) -> Document:
    """Read a JSON file.

    Raises:
        PathError: it is missing, unreadable or not JSON.
        DatasetError: a name stands twice in one object, of which JSON would lose the first.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark
        repeated: list[str] = []
        value = json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, repeated))
    except FileNotFoundError:
        raise PathError(f"{path} does not exist.") from None
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from error
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise PathError(f"{place}: this is not valid JSON: {error.msg}.") from error
    except UnicodeDecodeError as error:
        raise PathError(f"{path} is not valid JSON: byte {error.start} is not UTF-8.") from error
    except RecursionError as error:
        raise PathError(f"{path} is not valid JSON: it is nested too deeply.") from error
    document = Document(path, text, value)
    if repeated:
        name, offset = _first_repeated(text)
        raise DatasetError(
            f"{document._place(offset)}: {name!r} stands here for the second time in the same "
            "object: merge the two."
        )
    return document


def raise_problems(problems: Sequence[str]) -> None:
    """Raise `DatasetError` with all the sentences, a line each; nothing where there are none."""
    if len(problems) == 1:
        raise DatasetError(problems[0])
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        rest = [f"and {more} more."] if more > 0 else []
        lines = [f"{len(problems)} things are wrong.", *problems[:_SHOWN_PROBLEMS], *rest]
        raise DatasetError("\n  ".join(lines))


def model_problems(
    error: ValidationError, document: Document, *steps: Step, fields: Iterable[str] = ()
) -> list[str]:
    """What pydantic found wrong in the part of the document at `steps`: a sentence each.

    With the names of the model's `fields`, a field that it does not have is told the nearest.
    """
    known = list(fields)
    found = []
    for row in error.errors():
        field = ".".join(str(step) for step in row["loc"])
        is_extra = row["type"] == "extra_forbidden"
        place = document.at(*steps, *row["loc"], key=is_extra)
        if is_extra:
            near = _nearest_of(str(row["loc"][-1]), known)
            reason = f"there is no field {field!r}{near}"
        elif row["type"] == "missing":
            reason = f"the field {field!r} is missing"
        elif row["type"] == "value_error":
            reason = f"{field or 'this'}: {row['msg'].removeprefix('Value error, ')}"
        else:
            given = json.dumps(row["input"], ensure_ascii=False, default=str)
            given = given if len(given) <= _SHOWN_VALUE else f"{given[:_SHOWN_VALUE]}..."
            needed = _needed(row)
            allowed = re.findall(r"'([^']+)'", needed) if row["type"] == "literal_error" else []
            near = _nearest_of(row["input"], allowed) if isinstance(row["input"], str) else ""
            reason = f"{field or 'this'} is {given}, but has to be {needed}{near}"
        found.append(f"{place}: {reason}.")
    return found


def _needed(row: ErrorDetails) -> str:
    """What has to be there, after "has to be", in the words of JSON; else what pydantic says."""
    limits = {name: f"{value}" for name, value in row.get("ctx", {}).items()}
    template = _NEEDED.get(row["type"])
    return template.format(**limits) if template else row["msg"][:1].lower() + row["msg"][1:]


def _nearest_of(text: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(text, list(names), n=1, cutoff=0.5)
    return f"; the nearest is {near[0]!r}" if near else ""


def _object(pairs: list[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        repeated.append(pairs[0][0])
    return value


def _first_repeated(text: str) -> tuple[str, int]:
    """A name that stands twice in one object, and where it stands for the second time."""
    waiting = [_skip(text, 0)]
    for container in waiting:
        seen: set[Step] = set()
        for name, key_at, value_at in _children(text, container):
            if isinstance(name, str) and name in seen:
                return name, key_at
            seen.add(name)
            if text[value_at] in "{[":
                waiting.append(value_at)
    raise AssertionError("called for a text without a repeated name")


def _offset(text: str, steps: Sequence[Step], *, of_key: bool) -> int:
    position = _skip(text, 0)
    for number, step in enumerate(steps, start=1):
        if text[position] not in "{[":
            break
        found = [c for c in _children(text, position) if c[0] == step]
        if not found:
            break
        _, key_at, value_at = found[-1]
        position = key_at if of_key and number == len(steps) else value_at
    return position


def _children(text: str, container: int) -> Iterator[tuple[Step, int, int]]:
    """(name or place, offset of the name, offset of the value) of what an object or list holds."""
    is_object = text[container] == "{"
    place, index = _skip(text, container + 1), 0
    while text[place] not in "]}":
        name: Step = index
        value = place
        if is_object:
            name, end = _DECODER.raw_decode(text, place)
            value = _skip(text, _skip(text, end) + 1)  # over the colon
        yield name, place, value
        _, end = _DECODER.raw_decode(text, value)
        place, index = _skip(text, end), index + 1
        if text[place] == ",":
            place = _skip(text, place + 1)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
