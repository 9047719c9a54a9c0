"""Everything a user can ask of a music model, defined once.

Command-line flags, REST fields, forms and rows are derived from `MusicRequest`; a default, a range
and an alias live in its parts only. What depends on a model (its defaults, its longest duration) is
settled by `resolve`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from pydantic import ValidationError, model_validator

from luthier.errors import RequestError
from luthier.music.request_parts import MAX_SEED as MAX_SEED
from luthier.music.request_parts import Finish, Sampling, Sources, Words
from luthier.music.request_values import are_falling, by_commas, check_codes
from luthier.music.templates import INSTRUMENTAL

TASKS_WITH_SOURCE = ("cover", "repaint", "extract", "lego", "complete")


# Pydantic takes the fields of the last base first.
class MusicRequest(Finish, Sources, Sampling, Words):
    """One request for music. `None`: the model's own default, or "not said" for musical facts."""

    @model_validator(mode="before")
    @classmethod
    def _fold_aliases(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        names = _names()
        folded: dict[str, Any] = {}
        for given, value in data.items():
            name = names.get(str(given), str(given))
            if folded.get(name) is None:
                folded[name] = value
        return _upstream_ways(folded)

    @model_validator(mode="after")
    def _agree(self) -> MusicRequest:
        if self.repaint_regions and (self.repaint_start_s or self.repaint_end_s is not None):
            raise ValueError("give repaint_regions or one window, not both")
        for start, end in self.windows:
            if end is not None and end <= start:
                raise ValueError(
                    f"the repaint window ends at {end:g} s, before it starts at "
                    f"{start:g} s: give an end after the start, or none"
                )
        if self.cfg_interval_start > self.cfg_interval_end:
            raise ValueError("cfg_interval_start must not be above cfg_interval_end")
        if self.timesteps is not None and not are_falling(self.timesteps):
            raise ValueError(
                "timesteps must fall, each above 0 (a last 0 is allowed) and at most 1"
            )
        if self.infer_method == "sde" and self.sampler_mode == "heun":
            raise ValueError("the sampler heun solves the ode, not the sde: choose one of them")
        self._check_batch()
        self._check_sources()
        return self

    def _check_batch(self) -> None:
        if self.seeds and len(self.seeds) != self.batch_size:
            raise ValueError(
                f"there are {len(self.seeds)} seeds for {self.batch_size} pieces: give as many"
            )
        if any(not 0 <= seed <= MAX_SEED for seed in self.seeds):
            raise ValueError(f"each of seeds must be 0 to {MAX_SEED}")

    def _check_sources(self) -> None:
        if self.audio_codes:
            check_codes(self.audio_codes)
            if self.task not in ("text2music", "cover"):
                raise ValueError(
                    f"audio_codes are for the tasks text2music and cover, not for {self.task}: "
                    "leave them out"
                )
        elif self.task in TASKS_WITH_SOURCE and self.source_audio is None:
            raise ValueError(f"the task {self.task} works on a recording: give source_audio")

    @property
    def sung(self) -> str:
        """The lyrics as they are sung: `[Instrumental]` for none."""
        return INSTRUMENTAL if self.instrumental else self.lyrics

    @property
    def windows(self) -> tuple[tuple[float, float | None], ...]:
        """The windows to make anew, (start, end or None for the end) in seconds of the source."""
        return self.repaint_regions or ((self.repaint_start_s, self.repaint_end_s),)

    @property
    def piece_seeds(self) -> tuple[int | None, ...]:
        """A seed for each piece of the batch; None where one is to be chosen."""
        if self.seeds:
            return self.seeds
        if self.seed is None:
            return (None,) * self.batch_size
        return tuple((self.seed + i) % (MAX_SEED + 1) for i in range(self.batch_size))


@cache
def _names() -> dict[str, str]:
    """Alias → field; worked out once, as a server reads many requests."""
    return {alias: field.name for field in request_fields() for alias in field.aliases}


def _upstream_ways(values: dict[str, Any]) -> dict[str, Any]:
    """What ACE-Step's clients say in another shape: seeds in `seed`, ADG as a switch."""
    seed = values.get("seed")
    if isinstance(seed, list | tuple) or (isinstance(seed, str) and "," in seed):
        values["seeds"] = values.pop("seed")
    seeds = by_commas(values.get("seeds"))
    if seeds and isinstance(seeds, list | tuple) and values.get("batch_size") is None:
        values["batch_size"] = len(seeds)
    if str(values.pop("use_adg", "")).lower() in ("1", "true", "yes", "y", "on"):
        values["guidance_method"] = values.get("guidance_method") or "adg"
    return values


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
    if info.default not in (None, "", ()) and info.default is not False:
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
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
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
