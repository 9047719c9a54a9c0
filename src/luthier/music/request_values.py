"""What people write → the values of a request: keys, metres, tracks, regions, codes, seeds."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from pydantic import Field

from luthier.audio.keynames import parse_key
from luthier.errors import RequestError
from luthier.music.spec import AUDIO_CODES
from luthier.music.templates import TRACK_NAMES

Regions = tuple[tuple[float, float | None], ...]

_TIME_SIGNATURES = {"2": "2", "3": "3", "4": "4", "6": "6"} | {
    "2/4": "2",
    "3/4": "3",
    "4/4": "4",
    "6/8": "6",
}
_CODE = re.compile(r"<\|audio_code_(\d+)\|>")


def says(description: str, *aliases: str, unit: str = "", flag: str = "", **rules: Any) -> Any:
    """A field with what people need to know: meaning, unit, other names, command-line flag."""
    extra: dict[str, Any] = {"unit": unit, "flag": flag, "aliases": list(aliases)}
    return Field(description=description, json_schema_extra=extra, **rules)


def key_value(value: Any) -> Any:
    """A key by its full name; None for nothing said."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        return parse_key(str(value)).name
    except RequestError as error:
        raise ValueError(str(error)) from error


def time_signature_value(value: Any) -> Any:
    """2, 3, 4 or 6 as text; None for nothing said."""
    text = str(value or "").strip()
    if not text:
        return None
    if text not in _TIME_SIGNATURES:
        raise ValueError("it must be 2, 3, 4 or 6 (2/4, 3/4, 4/4, 6/8)")
    return _TIME_SIGNATURES[text]


def track_names(value: Any) -> Any:
    """Track names of the model's vocabulary, from a list or text with commas or bars."""
    if isinstance(value, str):
        value = value.replace("|", ",").split(",")
    if not isinstance(value, list | tuple):
        return value
    names = [str(name).strip().lower().replace(" ", "_") for name in value if str(name).strip()]
    for name in names:
        if name not in TRACK_NAMES:
            near = difflib.get_close_matches(name, TRACK_NAMES, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(
                f"there is no track {name!r}: {hint}Tracks are {', '.join(TRACK_NAMES)}"
            )
    return tuple(names)


def by_commas(value: Any) -> Any:
    """The items of text with commas; other values as they are."""
    if isinstance(value, str):
        return [item for item in value.split(",") if item.strip()]
    return value


def regions_value(value: Any) -> Any:
    """Windows in seconds, from pairs or from text such as `1:2.5,10:` (the last to the end)."""
    if not isinstance(value, str):
        return value
    regions = []
    for text in by_commas(value):
        start, colon, end = text.partition(":")
        if not colon:
            raise ValueError("write each region as start:end in seconds, for example 1:2.5,10:14")
        regions.append((start.strip() or 0.0, end.strip() or None))
    return tuple(regions)


def codes_value(value: Any) -> Any:
    """Audio codes from numbers, or from the text that a planner writes."""
    if not isinstance(value, str):
        return value
    rest = _CODE.sub("", value).strip()
    if "<" in value and not rest:
        return tuple(int(code) for code in _CODE.findall(value))
    items = by_commas(value)
    if not all(item.strip().isdecimal() for item in items):
        raise ValueError(
            "write audio codes as <|audio_code_N|> one after another, or as numbers with commas"
        )
    return tuple(int(item) for item in items)


def check_codes(codes: Iterable[int]) -> None:
    """Raise ValueError when a code is outside what there is."""
    for code in codes:
        if not 0 <= code < AUDIO_CODES:
            raise ValueError(f"audio code {code} does not exist: codes are 0 to {AUDIO_CODES - 1}")


def none_when_negative(value: Any) -> Any:
    """-1 is the upstream way to say "random" and "to the end"."""
    return None if value in (-1, "-1") else value


def are_falling(times: tuple[float, ...]) -> bool:
    """Whether times fall within (0, 1]; a last 0 is allowed."""
    times = times[:-1] if times and times[-1] == 0 else times
    in_range = bool(times) and times[0] <= 1 and times[-1] > 0
    return in_range and all(a > b for a, b in pairwise(times))
