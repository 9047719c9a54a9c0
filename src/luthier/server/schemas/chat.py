"""Music by OpenRouter's chat completions: what is asked, what is answered, and the model list."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from luthier.server.schemas.envelope import Shape, Taken


class AudioConfig(Taken):
    """The piece."""

    duration: float | None = Field(None, description="seconds")
    format: str | None = Field(None, description="of the answer; mp3 when not said")
    bpm: int | None = None
    key_scale: str | None = None
    time_signature: str | None = Field(None, description="`4` or `4/4`")
    vocal_language: str | None = None
    instrumental: bool | None = Field(None, description="no voice, whatever the lyrics say")


class Message(Taken):
    """A message; of several by the user the last one counts."""

    role: Literal["system", "user", "assistant"]
    content: str | list[dict[str, Any]] = Field(
        description="text, or parts `{type: text, text}` and `{type: input_audio, input_audio: "
        "{data, format}}` with base64 in `data`"
    )


class ChatAsked(Taken):
    """A chat completion whose answer is music."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "acestep/mini",
                    "messages": [{"role": "user", "content": "<prompt>warm house, organ</prompt>"}],
                    "audio_config": {"duration": 2, "bpm": 122, "instrumental": True},
                    "seed": 7,
                }
            ]
        }
    )

    model: str = Field(description="`acestep/<name>`; an unknown one is the default one")
    messages: list[Message] = Field(min_length=1, max_length=1000)
    modalities: list[str] | None = Field(None, description="taken without effect")
    audio_config: AudioConfig | None = None
    temperature: float | None = Field(None, ge=0, le=2, description="of the planner")
    top_p: float | None = Field(None, ge=0, le=1, description="of the planner; 0 is not said")
    top_k: int | None = Field(None, ge=0, description="of the planner")
    max_tokens: int | None = Field(None, description="taken without effect")
    stop: str | list[str] | None = Field(None, description="taken without effect")
    stream: bool = Field(False, description="answer in server-sent events")
    seed: int | str | None = Field(None, description="several by commas")
    thinking: bool | None = None
    guidance_scale: float | None = None
    batch_size: int | None = Field(None, description="1 when not said; all pieces are answered")
    lyrics: str | None = Field(None, description="then the message is the prompt")
    sample_mode: bool | None = Field(None, description="let the planner invent from the message")
    use_format: bool | None = None
    use_cot_caption: bool | None = None
    use_cot_language: bool | None = None
    task_type: str | None = Field(None, description="text2music when not said")
    repainting_start: float | None = Field(None, description="seconds")
    repainting_end: float | None = Field(None, description="seconds")
    audio_cover_strength: float | None = None


class AudioUrl(Shape):
    """Where a piece is: in the address itself."""

    url: str = Field(description="`data:audio/mpeg;base64,…`")


class AudioPart(Shape):
    """A piece."""

    type: Literal["audio_url"] = "audio_url"
    audio_url: AudioUrl


class AudioMessage(Shape):
    """The answer: words about the music, and the music."""

    role: Literal["assistant"] = "assistant"
    content: str = Field(description="Markdown: `## Metadata`, `## Lyrics`")
    audio: list[AudioPart]


class Choice(Shape):
    """The one choice."""

    index: Literal[0] = 0
    message: AudioMessage
    finish_reason: Literal["stop"] = "stop"


class Usage(Shape):
    """Nothing is counted."""

    prompt_tokens: Literal[0] = 0
    completion_tokens: Literal[0] = 0
    total_tokens: Literal[0] = 0


class Completion(Shape):
    """A finished completion."""

    id: str = Field(pattern="^chatcmpl-[0-9a-f]{24}$")
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="seconds since 1970")
    model: str
    choices: list[Choice]
    usage: Usage = Usage()


class Delta(Shape):
    """What a piece of a stream adds."""

    role: Literal["assistant"] | None = None
    content: str | None = Field(default=None, description="`.` is a sign of life")
    audio: list[AudioPart] | None = None


class ChunkChoice(Shape):
    """The one choice, as far as it is."""

    index: Literal[0] = 0
    delta: Delta
    finish_reason: Literal["stop", "error"] | None = Field(description="in the last piece")


class ChatChunk(Shape):
    """The data of an event of a streamed completion; behind the last one comes `[DONE]`."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]


class Pricing(Shape):
    """It costs nothing."""

    prompt: Literal["0"] = "0"
    completion: Literal["0"] = "0"
    request: Literal["0"] = "0"


class ChatModel(Shape):
    """A model as OpenRouter lists it."""

    id: str
    name: str
    created: int = Field(description="seconds since 1970")
    description: str
    input_modalities: tuple[str, ...] = ("text", "audio")
    output_modalities: tuple[str, ...] = ("audio", "text")
    context_length: int = 4096
    max_output_length: int = Field(default=300, description="seconds")
    pricing: Pricing = Pricing()


class ChatModels(Shape):
    """OpenRouter's list."""

    object: Literal["list"] = "list"
    data: list[ChatModel]
