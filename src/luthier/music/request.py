"""Everything a user can ask of a music model, defined once.

Command-line flags, REST fields, forms and rows are derived from `MusicRequest`; a default, a range
and an alias live here only. What depends on a model (its defaults, its longest duration) is settled
by `resolve`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from luthier.audio.keynames import parse_key
from luthier.errors import RequestError
from luthier.music.spec import ModelSpec
from luthier.music.templates import INSTRUMENTAL, TASKS, TRACK_NAMES, Task

MAX_SEED = 2**32 - 1
TASKS_WITH_SOURCE = ("cover", "repaint", "extract", "lego", "complete")
_DEFAULT_DURATION_S = 30.0
_TIME_SIGNATURES = {"2": "2", "3": "3", "4": "4", "6": "6"} | {
    "2/4": "2",
    "3/4": "3",
    "4/4": "4",
    "6/8": "6",
}


def _key(value: Any) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        return parse_key(str(value)).name
    except RequestError as error:
        raise ValueError(str(error)) from error


def _time_signature(value: Any) -> Any:
    text = str(value or "").strip()
    if not text:
        return None
    if text not in _TIME_SIGNATURES:
        raise ValueError("it must be 2, 3, 4 or 6 (2/4, 3/4, 4/4, 6/8)")
    return _TIME_SIGNATURES[text]


def _names(value: Any) -> Any:
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


def _numbers(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _none_when_negative(value: Any) -> Any:
    return (
        None if value in (-1, "-1") else value
    )  # the upstream way to say "random" and "to the end"


def _says(description: str, *aliases: str, unit: str = "", flag: str = "", **rules: Any) -> Any:
    """A field with what people need to know: meaning, unit, other names, command-line flag."""
    extra: dict[str, Any] = {"unit": unit, "flag": flag, "aliases": list(aliases)}
    return Field(description=description, json_schema_extra=extra, **rules)


def _falling(times: tuple[float, ...]) -> bool:
    times = times[:-1] if times and times[-1] == 0 else times
    in_range = bool(times) and times[0] <= 1 and times[-1] > 0
    return in_range and all(a > b for a, b in pairwise(times))


class MusicRequest(BaseModel):
    """One request for music. `None`: the model's own default, or "not said" for musical facts."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt: str = _says("what it should sound like", "caption", max_length=4096, default="")
    lyrics: str = _says("words to sing; empty is instrumental", max_length=32768, default="")
    instrumental: bool = _says("no voice, whatever the lyrics say", default=False)
    vocal_language: str = _says(
        "language of the lyrics, as a code",
        "vocalLanguage",
        "language",
        default="en",
        max_length=16,
    )
    bpm: int | None = _says("tempo", unit="beats per minute", ge=30, le=300, default=None)
    key: Annotated[str | None, BeforeValidator(_key)] = _says(
        "key, e.g. 'A minor' or 'F# major'", "key_scale", "keyscale", "keyScale", default=None
    )
    time_signature: Annotated[str | None, BeforeValidator(_time_signature)] = _says(
        "beats in a bar: 2, 3, 4 or 6", "timesignature", "timeSignature", default=None
    )
    duration_s: float | None = _says(
        "length of the result; the source's, or 30, when it is not said",
        *("duration", "audio_duration", "audioDuration", "target_duration", "targetDuration"),
        unit="seconds",
        flag="--duration",
        ge=1,
        le=600,
        default=None,
    )
    seed: Annotated[int | None, BeforeValidator(_none_when_negative)] = _says(
        "same seed, same sound; random when it is not said", ge=0, le=MAX_SEED, default=None
    )
    batch_size: int = _says(
        "how many to make, with seeds counting up",
        unit="pieces",
        flag="--batch",
        ge=1,
        le=8,
        default=1,
    )
    steps: int | None = _says(
        "denoising steps", "inference_steps", "inferenceSteps", ge=1, le=200, default=None
    )
    shift: float | None = _says("how much time is spent near noise", gt=0, le=10, default=None)
    timesteps: Annotated[tuple[float, ...] | None, BeforeValidator(_numbers)] = _says(
        "own falling times in (0, 1] instead of steps and shift, by commas",
        max_length=200,
        default=None,
    )
    guidance_scale: float | None = _says(
        "how closely to follow the prompt; 1 is no guidance",
        "guidanceScale",
        flag="--guidance",
        ge=1,
        le=30,
        default=None,
    )
    guidance_method: Literal["apg", "cfg"] | None = _says(
        "apg (projected, ACE-Step's own) or cfg (classifier-free)", default=None
    )
    cfg_interval_start: float = _says("guide from this time on up", ge=0, le=1, default=0.0)
    cfg_interval_end: float = _says("guide below this time only", ge=0, le=1, default=1.0)
    task: Task = _says(
        "what to do: " + ", ".join(TASKS), "task_type", "taskType", default="text2music"
    )
    tracks: Annotated[tuple[str, ...], BeforeValidator(_names)] = _says(
        "the tracks a lego, extract or complete task is about, by commas",
        *("track_name", "trackName", "track_classes", "trackClasses", "instruments"),
        default=(),
    )
    source_audio: Path | None = _says(
        "the recording to work on",
        *("src_audio_path", "ctx_audio_path", "sourceAudioPath", "srcAudioPath", "ctxAudioPath"),
        flag="--source",
        default=None,
    )
    reference_audio: Path | None = _says(
        "a recording whose timbre to take",
        *("reference_audio_path", "ref_audio_path", "referenceAudioPath", "refAudioPath"),
        flag="--reference",
        default=None,
    )
    repaint_start_s: float = _says(
        "start of the window to make anew",
        *("repainting_start", "repaint_start"),
        unit="seconds",
        flag="--repaint-start",
        ge=0,
        default=0.0,
    )
    repaint_end_s: Annotated[float | None, BeforeValidator(_none_when_negative)] = _says(
        "end of the window to make anew; the end when it is not said",
        *("repainting_end", "repaint_end"),
        unit="seconds",
        flag="--repaint-end",
        default=None,
    )
    cover_strength: float = _says(
        "the share of the steps that follow the source's codes",
        *("audio_cover_strength", "audioCoverStrength", "coverStrength"),
        ge=0,
        le=1,
        default=1.0,
    )

    @model_validator(mode="before")
    @classmethod
    def _fold_aliases(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        names = {alias: f.name for f in request_fields() for alias in f.aliases}
        folded: dict[str, Any] = {}
        for given, value in data.items():
            name = names.get(str(given), str(given))
            if folded.get(name) is None:
                folded[name] = value
        return folded

    @model_validator(mode="after")
    def _agree(self) -> MusicRequest:
        if self.repaint_end_s is not None and 0 <= self.repaint_end_s <= self.repaint_start_s:
            raise ValueError(
                f"the repaint window ends at {self.repaint_end_s:g} s, before it starts at "
                f"{self.repaint_start_s:g} s: give an end after the start, or none"
            )
        if self.cfg_interval_start > self.cfg_interval_end:
            raise ValueError("cfg_interval_start must not be above cfg_interval_end")
        if self.timesteps is not None and not _falling(self.timesteps):
            raise ValueError(
                "timesteps must fall, each above 0 (a last 0 is allowed) and at most 1"
            )
        if self.task in TASKS_WITH_SOURCE and self.source_audio is None:
            raise ValueError(f"the task {self.task} works on a recording: give source_audio")
        return self

    @property
    def sung(self) -> str:
        """The lyrics as they are sung: `[Instrumental]` for none."""
        return INSTRUMENTAL if self.instrumental else self.lyrics


class RequestField(NamedTuple):
    """What an interface needs to know about one field of `MusicRequest`."""

    name: str
    flag: str
    aliases: tuple[str, ...]
    help: str
    is_switch: bool


def request_fields() -> tuple[RequestField, ...]:
    """Every field with its flag, aliases and a help line that ends with unit, range and default."""
    return tuple(_field(name) for name in MusicRequest.model_fields)


def _field(name: str) -> RequestField:
    info = MusicRequest.model_fields[name]
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    facts = [str(extra["unit"]), _range_of(name)]
    if info.default not in (None, "", (), False):
        facts.append(f"default {info.default}")
    facts = [fact for fact in facts if fact]
    return RequestField(
        name=name,
        flag=str(extra["flag"]) or "--" + name.replace("_", "-"),
        aliases=tuple(str(alias) for alias in extra["aliases"]),  # type: ignore[union-attr]
        help=f"{info.description} ({', '.join(facts)})" if facts else str(info.description),
        is_switch=info.annotation is bool,
    )


def _range_of(name: str) -> str:
    limits = {k: v for m in MusicRequest.model_fields[name].metadata for k, v in _limits(m)}
    low, high = limits.get("ge", limits.get("gt")), limits.get("le")
    if low is not None and high is not None:
        return f"{low} to {high}" if "ge" in limits else f"above {low}, up to {high}"
    return "" if low is None else f"from {low}"


def _limits(rule: Any) -> list[tuple[str, Any]]:
    return [(k, getattr(rule, k)) for k in ("ge", "gt", "le") if hasattr(rule, k)]


def request_from(values: Mapping[str, Any]) -> MusicRequest:
    """Check `values` (field names or aliases); raise one `RequestError` in sentences."""
    try:
        return MusicRequest.model_validate(values)
    except ValidationError as error:
        raise RequestError(" ".join(_sentence(e) for e in error.errors())) from error


def _sentence(error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, list(MusicRequest.model_fields), n=1, cutoff=0.5)
        return f"a request has no field {name!r}." + (f" Did you mean {near[0]!r}?" if near else "")
    if not name:
        return message[0].upper() + message[1:] + "."
    allowed = _range_of(name)
    unit = field_unit(name)
    if allowed:
        message = f"it must be {allowed} {unit}".rstrip()
    return f"{name} is {error['input']!r}: {message.rstrip('.')}."


def field_unit(name: str) -> str:
    """The unit of a field, or an empty string."""
    extra = MusicRequest.model_fields[name].json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) else ""


def resolve(request: MusicRequest, spec: ModelSpec, source_s: float | None = None) -> MusicRequest:
    """Fill what the model decides (steps, shift, guidance, duration) and refuse what it cannot do.

    Args:
        source_s: length of the source recording in seconds, where there is one.
    """
    if request.task not in spec.tasks:
        raise RequestError(
            f"the model {spec.name} was not trained for the task {request.task}: "
            f"it does {', '.join(spec.tasks)}. Choose one of these, or another model."
        )
    longest = spec.max_frames / spec.frames_per_second
    duration = request.duration_s or source_s or min(_DEFAULT_DURATION_S, longest)
    if duration > longest:
        raise RequestError(
            f"duration_s is {duration:g}: the model {spec.name} makes at most {longest:g} seconds."
        )
    if request.repaint_start_s >= duration and request.task in ("repaint", "lego"):
        raise RequestError(
            f"the repaint window starts at {request.repaint_start_s:g} s, but the recording is "
            f"{duration:g} s long: start before its end."
        )
    guidance = 1.0 if spec.is_turbo else request.guidance_scale or spec.default_guidance
    return request.model_copy(
        update={
            "duration_s": float(duration),
            "steps": request.steps or spec.default_steps,
            "shift": request.shift or spec.default_shift,
            "guidance_scale": guidance,
            "guidance_method": request.guidance_method or spec.guidance_method,
        }
    )
