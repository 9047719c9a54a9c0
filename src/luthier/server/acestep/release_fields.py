"""The values of a `/release_task` body → a request for music and the task's options.

Each field is looked up at the top level, then in `param_obj`, then in the first of the metadata
objects, under its names; what a value means is `MusicRequest`'s and `TaskOptions`' business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from luthier.music.request import MusicRequest, request_from
from luthier.music.task_options import (
    NO_EFFECT,
    NO_EFFECT_ALIASES,
    TaskOptions,
    options_from,
)
from luthier.server.http.errors import Refusal
from luthier.server.http.strict_json import strict_json

METAS = ("metas", "meta", "metadata", "user_metadata", "userMetadata")
UPSTREAM_BATCH = 2  # what ACE-Step's servers make where nobody says how many
_STRUCTURE = {"param_obj", "ai_token", "use_adg", "lora_scale", *METAS}
_MOST_NOTES = 20
_LETTERS = 64


class Asked(NamedTuple):
    """What a body asks for, and what was ignored or put right, in sentences."""

    music: MusicRequest
    options: TaskOptions
    notes: tuple[str, ...]


def names_of(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """field → its names, its own first."""
    found = {}
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra
        assert isinstance(extra, dict)
        aliases = extra["aliases"]
        assert isinstance(aliases, list)
        found[name] = (name, *(str(alias) for alias in aliases))
    return found


_MUSIC, _OPTIONS = names_of(MusicRequest), names_of(TaskOptions)
_KNOWN = {
    *(name for names in (_MUSIC | _OPTIONS).values() for name in names),
    *(NO_EFFECT | NO_EFFECT_ALIASES),
    *_STRUCTURE,
}


def _no_adapters(_: Any, __: Any) -> Any:
    raise Refusal("adapters are not offered here.")


def asked_from(
    body: Mapping[str, Any],
    files: Mapping[str, Path] | None = None,
    recording: Callable[[str], Path] = Path,
    adapters: Callable[[Any, Any], Any] = _no_adapters,
) -> Asked:
    """Read a body that was decoded already.

    Args:
        files: uploaded recordings by field; they count more than paths.
        recording: turns a path that the body names into one that may be read, or refuses it.
        adapters: does the same with `lora` and `lora_scale`.

    Raises:
        RequestError: a value is outside its range.
    """
    levels = _levels(body)
    notes: list[str] = []
    options_said = _said(levels, _OPTIONS, TaskOptions, notes)
    said = _said(levels, _MUSIC, MusicRequest, notes)
    adg = _first(levels, ("use_adg",))
    if adg is not None:
        said["use_adg"] = adg
    for field in ("source_audio", "reference_audio"):
        if files and field in files:
            said[field] = files[field]
        elif field in said:
            said[field] = recording(str(said[field]))
    if "lora" in said:
        said["lora"] = adapters(said["lora"], _first(levels, ("lora_scale",)))
    options = options_from(options_said)
    _settle_seed(said, options)
    if (
        said.get("batch_size") is None
        and not said.get("seeds")
        and "," not in str(said.get("seed", ""))
    ):
        said["batch_size"] = UPSTREAM_BATCH
    if str(said.get("lyrics", "")).strip().lower() in ("[inst]", "[instrumental]"):
        said["lyrics"] = ""
    if options.invents:
        said |= hints_in(options.sample_query, said)
    unknown = sorted({str(key)[:_LETTERS] for level in levels for key in level} - _KNOWN)
    notes += [f"{name!r} is no field of a task: it was ignored." for name in unknown]
    return Asked(request_from(said), options, tuple(notes[:_MOST_NOTES]))


def _levels(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    levels = [body]
    inner = [body.get("param_obj"), next((body[m] for m in METAS if body.get(m) is not None), None)]
    for value in inner:
        if isinstance(value, str) and value.strip():
            value = strict_json(value, "param_obj or metas")
        if isinstance(value, Mapping):
            levels.append(value)
    return levels


def _first(levels: list[Mapping[str, Any]], names: tuple[str, ...]) -> Any:
    for level in levels:
        for name in names:
            if level.get(name) is not None:
                return level[name]
    return None


def _said(
    levels: list[Mapping[str, Any]],
    names: Mapping[str, tuple[str, ...]],
    model: type[BaseModel],
    notes: list[str],
) -> dict[str, Any]:
    """What is said, by field; empty text says nothing."""
    said = {}
    for field, spellings in names.items():
        value = _first(levels, spellings)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if _is_number(model, field) and not isinstance(value, int | float | list):
            number = _number(value)
            if number is None:
                shown = str(value)[:_LETTERS]
                notes.append(f"{field} is {shown!r}, no number: its default was taken.")
                continue
            value = number
        said[field] = value
    return said


@cache
def _is_number(model: type[BaseModel], field: str) -> bool:
    kind = str(model.model_fields[field].annotation)
    return field != "seed" and kind in (
        "<class 'int'>",
        "<class 'float'>",
        "int | None",
        "float | None",
    )


def _number(value: Any) -> float | int | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number


def _settle_seed(said: dict[str, Any], options: TaskOptions) -> None:
    """A seed that is given counts, unless a random one is asked for in so many words."""
    if options.use_random_seed:
        said.pop("seed", None)
        said.pop("seeds", None)
        return
    seed = said.get("seed")
    if isinstance(seed, str) and "," not in seed:
        number = _number(seed)
        said["seed"] = -1 if number is None else number


_LANGUAGES = {
    "english": "en", "chinese": "zh", "mandarin": "zh", "japanese": "ja", "korean": "ko",
    "spanish": "es", "french": "fr", "german": "de", "italian": "it", "portuguese": "pt",
    "russian": "ru", "bengali": "bn", "hindi": "hi", "arabic": "ar", "thai": "th",
    "vietnamese": "vi", "indonesian": "id", "turkish": "tr", "dutch": "nl", "polish": "pl",
}  # fmt: skip


def hints_in(query: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a few words say beyond themselves: a language, or that nobody sings."""
    text = query.lower()
    found: dict[str, Any] = {}
    language = next((code for word, code in _LANGUAGES.items() if word in text.split()), None)
    if language and "vocal_language" not in said:
        found["vocal_language"] = language
    quiet = any(word in text for word in ("instrumental", "pure music", "pure instrument"))
    if quiet or text.rstrip(" .!").endswith(" solo"):
        found["instrumental"] = True
    return found
