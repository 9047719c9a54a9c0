"""The body of `/release_task` as a JSON schema, made from what reads it: the same fields, names,
ranges and defaults, under upstream's names too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from luthier.music.request import MusicRequest
from luthier.music.request_lora import MOST_ADAPTERS
from luthier.music.task_options import NO_EFFECT, NO_EFFECT_ALIASES, TaskOptions
from luthier.server.acestep.release_fields import METAS, UPSTREAM_BATCH, names_of

EXAMPLES: dict[str, dict[str, Any]] = {
    "text2music": {
        "prompt": "tight electro groove, punchy kick, clean bass",
        "bpm": 120,
        "key_scale": "A minor",
        "time_signature": "4",
        "audio_duration": 20,
        "thinking": False,
        "inference_steps": 8,
        "batch_size": 1,
    },
    "two takes with their seeds": {"caption": "rain on a tin roof, felt piano", "seed": "7,8"},
    "as web pages send it": {
        "param_obj": {"duration": "12", "bpm": "90", "language": "en"},
        "metas": {"prompt": "slow waltz, accordion", "lyrics": "[inst]", "timesignature": "3/4"},
        "audio_format": "wav",
        "use_random_seed": False,
        "seed": 42,
    },
}
FILES = {
    "src_audio": "the recording to work on",
    "ctx_audio": "the same as `src_audio`",
    "reference_audio": "a recording whose timbre to take",
    "ref_audio": "the same as `reference_audio`",
}
# Fields whose text is more than their value written out.
_WORDS = {
    "seed": "-1 is random too, several by commas make a batch",
    "repaint_end_s": "-1 is the end too",
}


@cache
def release_schema() -> dict[str, Any]:
    """The schema; text, as forms send it, is allowed for every value."""
    properties: dict[str, Any] = {}
    for model in (MusicRequest, TaskOptions):
        properties |= _properties(model)
    properties["batch_size"]["default"] = UPSTREAM_BATCH
    properties |= _adapters()
    properties["use_adg"] = {
        "type": ["boolean", "string", "null"],
        "description": "true is the same as `guidance_method` adg",
    }
    for name, why in NO_EFFECT.items():
        properties[name] = {"description": f"taken without effect: {why}"}
    for alias, name in NO_EFFECT_ALIASES.items():
        properties[alias] = {"description": f"the same as `{name}`"}
    inner = {"type": "object", "description": "the same fields; looked at second"}
    text = {"type": "string", "contentMediaType": "application/json"}
    properties["param_obj"] = {"anyOf": [inner, text, {"type": "null"}]}
    for name in METAS:
        inner = {"type": "object", "description": "the same fields; the first of these counts"}
        properties[name] = {"anyOf": [inner, text, {"type": "null"}]}
    properties["ai_token"] = {
        "type": ["string", "null"],
        "description": "a key, for clients that do not send the header",
    }
    return {"type": "object", "title": "ReleaseTask", "properties": properties}


def _adapters() -> dict[str, Any]:
    """A server takes names below its roots, where the command line takes folders."""
    scale = {"type": ["number", "string"], "description": "from -10 to 10; 1 is as trained"}
    named = {"type": "object", "properties": {"name": {"type": "string"}, "scale": scale}}
    one = [{"type": "string"}, named]
    several = {"type": "array", "maxItems": MOST_ADAPTERS, "items": {"anyOf": one}}
    lora = {
        "description": "adapters to play with, of those that /v1/capabilities lists: a name, "
        "`name:scale`, an object, or a list of these; an empty list plays without the one that "
        "is loaded",
        "anyOf": [*one, several, {"type": "null"}],
    }
    scales = {
        "description": "the scale of what `lora` names without one",
        "anyOf": [*({"type": kind} for kind in ("number", "string", "null")),
                  {"type": "array", "items": scale}],
    }  # fmt: skip
    same = lora | {"description": "the same as `lora`"}
    return {"lora": lora, "loras": same, "lora_scale": scales}


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    described = model.model_json_schema()["properties"]
    for field, (own, *aliases) in names_of(model).items():
        schema = {key: value for key, value in described[field].items() if key not in _OURS}
        unit = described[field].get("unit")
        help_ = str(schema.pop("description"))
        if field in _WORDS:
            help_ += f"; {_WORDS[field]}"
        also = ", ".join(f"`{alias}`" for alias in aliases)
        shown = f"{help_} ({unit})" if unit else help_
        default = schema.pop("default", None)
        value = {"anyOf": _ways(schema)}
        if default not in (None, []):
            value["default"] = default
        found[own] = {"description": f"{shown}. Also {also}" if also else shown, **value}
        found |= {alias: {"description": f"the same as `{own}`", **value} for alias in aliases}
    return found


_OURS = ("unit", "flag", "aliases", "title")


def _ways(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The value, the same as text, or nothing, which says nothing."""
    ways: list[dict[str, Any]] = list(schema.pop("anyOf", [])) or [schema]
    if any("enum" in way for way in ways):
        return [*ways, {"type": "null"}]
    kinds = {way.get("type") for way in ways}
    missing = [kind for kind in ("string", "null") if kind not in kinds]
    return [*ways, *({"type": kind} for kind in missing)]
