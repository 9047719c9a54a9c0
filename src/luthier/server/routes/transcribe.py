"""`/v1/transcribe`: upstream asks a service elsewhere; a server that speaks to nobody says so."""

from __future__ import annotations

from typing import Any, NoReturn

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from luthier.server.http.errors import Refusal
from luthier.server.http.routing import The, asked, described
from luthier.server.schemas.envelope import Asked, Shape

router = APIRouter()


class TranscribeAsked(Asked):
    """A recording with singing."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"audio_path": "song.mp3"}]})

    audio_path: str = Field(max_length=4096)
    language: str | None = Field(None, max_length=16)


class Transcript(Shape):
    """Upstream's answer: what is sung, and when."""

    words: list[dict[str, Any]] = Field(description="each with its start and end in seconds")
    lrc_text: str
    lyrics_text: str


@router.post(
    "/v1/transcribe",
    summary="What is sung, and when (not here: 400)",
    **described(Transcript, body=TranscribeAsked),
)
async def transcribe(request: Request, service: The) -> NoReturn:
    """Always 400, as upstream answers where its Whisper service has no key: this server sends
    recordings to nobody, and brings no speech recognition of its own.
    """
    await asked(request, service, TranscribeAsked)
    raise Refusal(
        "this server has no speech recognition: write the lyrics by hand, or start it with a "
        "planner (--lm-model-path) and send the recording to /release_task with "
        "full_analysis_only, which answers the lyrics without their times."
    )
