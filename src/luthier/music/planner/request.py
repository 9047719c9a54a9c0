"""Everything a user can ask of the planner, defined once; flags and fields are derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from luthier.errors import RequestError
from luthier.music.planner.facts import LANGUAGES, Facts
from luthier.music.planner.prompts import NO_INPUT
from luthier.music.request_parts import MAX_SEED
from luthier.music.request_values import codes_value, key_value, time_signature_value

Mode = Literal["compose", "inspire", "format", "understand"]


def _language(value: Any) -> Any:
    if value in (None, ""):
        return None
    if value not in LANGUAGES:
        raise ValueError(f"the planner knows {', '.join(LANGUAGES)}")
    return value


class PlanRequest(BaseModel):
    """One request for a plan. `None`: the planner decides."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt: str = Field(
        "", max_length=4096, description="a description, or for inspire a few words"
    )
    mode: Mode = Field(
        "compose",
        description="compose: facts, then audio codes; inspire: a whole piece from a few words; "
        "format: a better description; understand: describe audio codes",
    )
    lyrics: str = Field("", max_length=32768, description="words to sing; empty is instrumental")
    instrumental: bool = Field(False, description="no voice, whatever the lyrics say")
    audio_codes: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(codes_value)
    ] = Field((), max_length=3000, description="the codes to understand, by commas")
    bpm: int | None = Field(None, ge=30, le=300, description="tempo, beats per minute")
    key: Annotated[str | None, BeforeValidator(key_value)] = Field(
        None, description="key, e.g. 'A minor'"
    )
    time_signature: Annotated[str | None, BeforeValidator(time_signature_value)] = Field(
        None, description="beats in a bar: 2, 3, 4 or 6"
    )
    duration_s: float | None = Field(None, ge=1, le=600, description="length in seconds")
    language: Annotated[str | None, BeforeValidator(_language)] = Field(
        None, description="language of the lyrics, as a code"
    )
    codes: bool = Field(True, description="write audio codes too (compose)")
    rewrite_caption: bool = Field(True, description="let the planner write a caption (compose)")
    guess_language: bool = Field(True, description="let the planner name the language (compose)")
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="same seed, same plan; random when it is not said"
    )
    batch_size: int = Field(1, ge=1, le=8, description="how many plans, with seeds counting up")
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 takes the likeliest; 0.85, to understand 0.3"
    )
    top_k: int = Field(0, ge=0, description="only so many of the likeliest tokens; 0: all")
    top_p: float = Field(0.9, gt=0, le=1, description="only the likeliest up to this share")
    repetition_penalty: float = Field(1.0, ge=0.5, le=2, description="above 1: repeat less")
    cfg_scale: float = Field(
        2.0, ge=1, le=10, description="how closely to follow the prompt (compose); 1: no guidance"
    )
    negative_prompt: str = Field(NO_INPUT, description="what to be guided away from (compose)")

    @model_validator(mode="after")
    def _agree(self) -> PlanRequest:
        if (self.mode == "understand") != bool(self.audio_codes):
            raise ValueError(
                "audio codes belong to the mode understand, and it to them: give both or neither"
            )
        return self

    @property
    def facts(self) -> Facts:
        """What the user said of the piece."""
        return Facts(
            bpm=self.bpm,
            duration=None if self.duration_s is None else int(self.duration_s),
            keyscale=self.key,
            language=self.language,
            timesignature=self.time_signature,
        )

    @property
    def sung(self) -> str:
        """The lyrics as the planner reads them."""
        quiet = self.instrumental or self.lyrics.strip().lower() in ("", "[inst]")
        return "[Instrumental]" if quiet else self.lyrics


def plan_request_from(values: Mapping[str, Any]) -> PlanRequest:
    """Check `values`; raise one `RequestError` in sentences."""
    try:
        return PlanRequest.model_validate(values)
    except ValidationError as error:
        raise RequestError(" ".join(_sentence(e) for e in error.errors())) from error


def _sentence(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    if not error["loc"]:
        return message[0].upper() + message[1:] + "."
    return f"{error['loc'][0]} is {error['input']!r}: {message}."
