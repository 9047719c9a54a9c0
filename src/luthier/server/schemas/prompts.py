"""Words: what the planner is asked to write, what it writes, and examples to start from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from luthier.server.schemas.envelope import Asked, Shape, Taken


class FormatFacts(Taken):
    """What is known of the piece."""

    duration: float | str | None = Field(None, description="seconds, 1 to 600")
    bpm: int | str | None = Field(None, description="30 to 300")
    key: str | None = Field(None, description="`A minor`; also `key_scale`")
    key_scale: str | None = None
    time_signature: str | int | None = Field(None, description="2, 3, 4 or 6")
    language: str | None = Field(None, description="of the lyrics, as a code")


class FormatAsked(Asked):
    """A caption and lyrics to write anew."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prompt": "rainy lo-fi",
                    "lyrics": "[Verse]\nThe window fogs, the kettle hums",
                    "temperature": 0.85,
                    "param_obj": {"bpm": 76, "key": "D minor", "duration": 60, "language": "en"},
                }
            ]
        }
    )

    prompt: str | None = Field(None, max_length=4096, description="also `caption`")
    caption: str | None = Field(None, max_length=4096)
    lyrics: str | None = Field(None, max_length=32768)
    temperature: float | str | None = Field(None, description="0 to 2; 0.85 when not said")
    param_obj: FormatFacts | str | None = Field(None, description="an object, or JSON text of one")


class Written(Shape):
    """A caption and lyrics, written anew."""

    caption: str
    lyrics: str
    bpm: int | None
    key_scale: str
    time_signature: str
    duration: float | None = Field(description="seconds")
    vocal_language: str


class SampleAsked(Asked):
    """A few words to invent a piece from."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "a waltz for a rainy bridge", "instrumental": True}]
        }
    )

    query: str | None = Field(None, max_length=4096, description="a few words")
    sample_query: str | None = Field(None, max_length=4096, description="the same as `query`")
    description: str | None = Field(None, max_length=4096, description="the same as `query`")
    instrumental: bool | str | None = Field(None, description="no voice")
    vocal_language: str | None = Field(None, max_length=16, description="code, or `unknown`")
    temperature: float | str | None = Field(None, description="0 to 2; 0.85 when not said")


class Sample(Shape):
    """A piece that the planner invented, to be played with `/release_task`."""

    caption: str
    lyrics: str
    bpm: int | None
    keyscale: str
    duration: float | None = Field(description="seconds")
    timesignature: str
    vocal_language: str


class RandomAsked(Asked):
    """Which kind of example."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"sample_type": "simple_mode"}, {"sample_type": "custom"}]}
    )

    sample_type: Any = Field(
        None, description="`simple_mode`, or nothing: a few words; anything else: a whole request"
    )


class SimpleSample(Shape):
    """A few words."""

    description: str
    instrumental: bool
    vocal_language: str


class CustomSample(Shape):
    """A whole request."""

    think: bool
    caption: str
    lyrics: str
    bpm: int
    duration: int = Field(description="seconds")
    keyscale: str
    language: str
    timesignature: Literal["2", "3", "4", "6"]
