"""The facts of a piece that a plan states: their names, what they may be, how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import yaml  # type: ignore[import-untyped]

CODES_PER_SECOND = 5
BPM = range(30, 301)
DURATION_S = range(10, 601)
TIME_SIGNATURES = ("2", "3", "4", "6")
KEYS = tuple(
    f"{note}{accidental} {mode}"
    for note in "ABCDEFG"
    for accidental in ("", "#", "b", "♯", "♭")
    for mode in ("major", "minor")
)
LANGUAGES = (
    *("ar", "az", "bg", "bn", "ca", "cs", "da", "de", "el", "en"),
    *("es", "fa", "fi", "fr", "he", "hi", "hr", "ht", "hu", "id"),
    *("is", "it", "ja", "ko", "la", "lt", "ms", "ne", "nl", "no"),
    *("pa", "pl", "pt", "ro", "ru", "sa", "sk", "sr", "sv", "sw"),
    *("ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "yue", "zh"),
    "unknown",
)
_LINE_WIDTH = 80  # PyYAML's own, at which the model saw captions wrapped


@dataclass(frozen=True)
class Facts:
    """What is known of a piece, in the order in which it is written; `None`: nothing.

    Attributes:
        duration: whole seconds.
        keyscale: e.g. "C# minor".
        timesignature: beats in a bar, "2", "3", "4" or "6".
    """

    bpm: int | None = None
    caption: str | None = None
    duration: int | None = None
    genres: str | None = None
    keyscale: str | None = None
    language: str | None = None
    timesignature: str | None = None

    def given(self) -> dict[str, int | str]:
        """The facts that are known, in order."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def over(self, other: Facts) -> Facts:
        """These facts, and where they say nothing the other's."""
        return Facts(**(other.given() | self.given()))  # type: ignore[arg-type]


FACTS = tuple(field.name for field in fields(Facts))


def think_block(facts: Facts) -> str:
    """The facts as the model writes them before the audio codes, ending after `</think>`.

    A YAML mapping with sorted keys, wrapped near 80 columns; numbers stand without quotes.
    """
    values: dict[str, int | str] = {}
    for name, value in facts.given().items():
        text = str(value).strip()
        if name == "timesignature":
            text = text.removesuffix("/4")
        values[name] = int(text) if text.isascii() and text.isdigit() else text
    body = yaml.dump(values, allow_unicode=True, sort_keys=True, width=_LINE_WIDTH).strip()
    return f"<think>\n{body if values else ''}\n</think>"


def parse_facts(text: str) -> Facts:
    """Read lines of `name: value`, within `<think>` or not; an indented line goes on.

    What is out of range is left out, so that what is there can be relied on.
    """
    body = text.split("</think>")[0].split("<think>")[-1]
    found: dict[str, str] = {}
    name = ""
    for line in body.split("\n"):
        head, colon, rest = line.partition(":")
        if colon and head in FACTS and head not in found:
            name, found[head] = head, rest.strip()
        elif name and line[:1].isspace() and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
    return _checked({key: _unquoted(value) for key, value in found.items()})


def _unquoted(value: str) -> str:
    """A YAML scalar without its quotes; what is no YAML is taken as it stands."""
    if value[:1] not in ("'", '"'):
        return value
    try:
        read = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # the latter for escapes beyond Unicode
        return value
    return read if isinstance(read, str) else value


def _checked(values: Mapping[str, str]) -> Facts:
    allowed = {"timesignature": TIME_SIGNATURES, "keyscale": KEYS, "language": LANGUAGES}
    known: dict[str, int | str] = {}
    for name, value in values.items():
        if name in ("bpm", "duration"):
            limits = BPM if name == "bpm" else DURATION_S
            if value.isascii() and value.isdigit() and int(value) in limits:
                known[name] = int(value)
        elif value and (name not in allowed or value in allowed[name]):
            known[name] = value
    return Facts(**known)  # type: ignore[arg-type]
