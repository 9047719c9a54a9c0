"""What may be started, and with what: a table of commands, and how a request becomes words.

Only what stands here can be said. A path must lie below a data root once links are followed; a
value is one word with its flag (`--flag=value`), so that none of it can be read as another flag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.errors import RequestError
from luthier.models import BUILT_IN

Kind = Literal["folder", "file", "new", "number", "switch", "name", "choice", "model", "adapters"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST_ADAPTERS = 16
_LARGEST = 2**63


@dataclass(frozen=True)
class Field:
    """One thing that can be said.

    Attributes:
        flag: of the command; empty for a word without one.
        kind: a folder or file that is there, a path to be written, a number, a switch, a name
            without slashes, one of `choices`, a model (mini or a folder), adapters with weights.
    """

    kind: Kind
    flag: str = ""
    needed: bool = False
    choices: tuple[str, ...] = ()


_SAMPLES = {
    "generate_samples": Field("switch", "--generate-samples"),
    "sample_duration": Field("number", "--sample-duration"),
    "sample_steps": Field("number", "--sample-steps"),
    "sample_seed": Field("number", "--sample-seed"),
    "base_model": Field("model", "--base-model"),
}
# name → words of the command line, and what can be said.
COMMANDS: dict[str, tuple[tuple[str, ...], dict[str, Field]]] = {
    "curate": (
        ("curate",),
        {
            "input_dir": Field("folder", needed=True),
            "out": Field("new", "--out", needed=True),
            "sample_rate": Field("number", "--sample-rate"),
            "target_format": Field(
                "choice", "--target-format", choices=("mp3", "flac", "wav", "ogg")
            ),
            "bitrate": Field("number", "--bitrate"),
            "min_duration": Field("number", "--min-duration"),
            "max_duration": Field("number", "--max-duration"),
            "normalize_peak": Field("number", "--normalize-peak"),
            "workers": Field("number", "--workers"),
            "report": Field("switch", "--report"),
        },
    ),
    "prompts": (
        ("prompts",),
        {
            "audio_dir": Field("folder", needed=True),
            "style_mapping": Field("file", "--style-mapping"),
            "presets": Field("file", "--presets"),
            "out": Field("new", "--out"),
            "seed": Field("number", "--seed"),
            "include_lyrics": Field("switch", "--include-lyrics"),
            "overwrite": Field("switch", "--overwrite"),
        },
    ),
    "dataset_build": (
        ("dataset", "build"),
        {
            "data_dir": Field("folder", needed=True),
            "metadata": Field("folder", "--metadata", needed=True),
            "out": Field("new", "--out", needed=True),
            "validation_split": Field("number", "--validation-split"),
            "repeat_count": Field("number", "--repeat-count"),
            "seed": Field("number", "--seed"),
            "presets": Field("file", "--presets"),
        },
    ),
    "dataset_check": (
        ("dataset", "check"),
        {"dataset_dir": Field("folder", needed=True), "metadata": Field("folder", "--metadata")},
    ),
    # Not import-json: the file that it reads may name recordings anywhere on the machine.
    "dataset_export": (
        ("dataset", "export-json"),
        {
            "dataset_dir": Field("folder", needed=True),
            "out": Field("new", "--out", needed=True),
            "split": Field("choice", "--split", choices=("train", "validation", "all")),
            "name": Field("name", "--name"),
        },
    ),
    "train": (
        ("train",),
        {
            "dataset": Field("folder", "--dataset", needed=True),
            "logs_dir": Field("new", "--logs-dir", needed=True),
            "exp_name": Field("name", "--exp-name", needed=True),
            "model": Field("model", "--model"),
            "cache_dir": Field("new", "--cache-dir"),
            "resume": Field("switch", "--resume"),
        },
    ),
    "merge": (
        ("merge",),
        {
            "base_model": Field("model", "--base-model", needed=True),
            "adapters": Field("adapters", "--adapter", needed=True),
            "output_dir": Field("new", "--output-dir", needed=True),
            "storage": Field("choice", "--storage", choices=("base", "exact")),
            "verify": Field("switch", "--verify"),
            "overwrite": Field("switch", "--overwrite"),
        },
    ),
    "evaluate": (
        ("evaluate",),
        {
            "path": Field("folder", needed=True),
            "reference": Field("folder", "--reference", needed=True),
            "out": Field("new", "--out"),
            "html": Field("new", "--html"),
            "baseline": Field("file", "--baseline"),
            "sample_output_dir": Field("new", "--sample-output-dir"),
            **_SAMPLES,
        },
    ),
    "export": (
        ("export",),
        {
            "model": Field("model", needed=True),
            "out": Field("new", "--out", needed=True),
            "precision": Field("choice", "--precision", choices=("fp32", "fp16", "int8", "int4")),
            "verify": Field("switch", "--verify"),
        },
    ),
}


class Roots:
    """The folders that jobs may read and write below."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.folders = tuple(root.resolve() for root in roots)

    def path(
        self, text: Any, name: str, *, of: Literal["folder", "file", "folder or file", "new"]
    ) -> Path:
        """A path that a request names, absolute, or relative to the first root.

        Raises:
            RequestError: it lies elsewhere once links are followed, or is not what is needed.
        """
        refused = RequestError(
            f"{name}: name a path below a folder that the server was started with (--data-root)."
        )
        if not isinstance(text, str) or not text.strip() or len(text) > 4096:
            raise refused
        try:
            path = (self.folders[0] / text).resolve()
            inside = any(path.is_relative_to(root) for root in self.folders)
            found = {
                "folder": path.is_dir(),
                "file": path.is_file(),
                "folder or file": path.exists(),
                "new": True,
            }[of]
        except (OSError, ValueError, RuntimeError):  # a null byte, a circle of links
            raise refused from None
        if not inside or not str(path).isprintable():
            raise refused
        if not found:
            raise RequestError(f"{name}: there is no such {of}.")
        if of == "new" and path in self.folders:
            raise RequestError(f"{name}: name something below the folder, not the folder itself.")
        return path


def words_of(command: str, said: Mapping[str, Any], roots: Roots) -> list[str]:
    """The words of the command line, without `luthier`.

    Raises:
        RequestError: an unknown command or argument, a value of the wrong kind, a path elsewhere.
    """
    if command not in COMMANDS:
        raise RequestError(f"there is no command {command[:64]!r}: {', '.join(COMMANDS)}.")
    words, fields = COMMANDS[command]
    for name in said:
        if name not in fields:
            raise RequestError(
                f"{command} takes no argument {str(name)[:64]!r}: it takes {', '.join(fields)}."
            )
    flags: list[str] = []
    places: list[str] = []
    for name, field in fields.items():
        value = said.get(name)
        if value is None:
            if field.needed:
                raise RequestError(f"{command} needs the argument {name}.")
            continue
        for word in _words(name, field, value, roots):
            if field.flag:
                flags.append(f"{field.flag}={word}" if word else field.flag)
            else:
                places.append(word)
    return [*words, *flags, *places]


def _words(name: str, field: Field, value: Any, roots: Roots) -> list[str]:
    if field.kind in ("folder", "file", "new"):
        return [str(roots.path(value, name, of=field.kind))]
    if field.kind == "model":
        return [BUILT_IN if value == BUILT_IN else str(roots.path(value, name, of="folder"))]
    if field.kind == "adapters":
        return _adapters(name, value, roots)
    if field.kind == "switch":
        if not isinstance(value, bool):
            raise RequestError(f"{name} must be true or false.")
        return [""] if value else []
    if field.kind == "number":
        return [repr(_number(value, name))]
    if field.kind == "choice":
        if value not in field.choices:
            raise RequestError(f"{name} must be one of {', '.join(field.choices)}.")
        return [str(value)]
    return [plain_name(value, name)]


def _number(value: Any, name: str) -> int | float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < _LARGEST:  # NaN neither
        raise RequestError(f"{name} must be a number.")
    return value  # type: ignore[no-any-return]


def plain_name(value: Any, name: str) -> str:
    """A name that is no path and no flag."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise RequestError(
            f"{name} must be 1 to 100 letters, digits, dots, dashes and underscores, a letter or "
            "digit first."
        )
    return value


def _adapters(name: str, value: Any, roots: Roots) -> list[str]:
    rows = value if isinstance(value, list) else [value]
    words = []
    for row in rows[:_MOST_ADAPTERS]:
        row = {"path": row} if isinstance(row, str) else row
        if not isinstance(row, dict) or not set(row) <= {"path", "weight"}:
            raise RequestError(f"{name} must be paths, or objects with path and weight.")
        weight = _number(row.get("weight", 1.0), f"{name}: weight")
        words.append(f"{roots.path(row.get('path'), name, of='folder or file')}:{weight!r}")
    if not words:
        raise RequestError(f"{name} is empty.")
    return words
