"""OpenRouter's chat completions: say what to play, and the answer is music, at once or streamed."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from luthier.errors import LuthierError
from luthier.server.acestep.chat import PREFIX, content_of, data_url, task_of
from luthier.server.http.body import received
from luthier.server.http.multipart import Limits
from luthier.server.http.routing import Known, The, body_of, checked, events_of, problems
from luthier.server.http.wait_for_task import result_of
from luthier.server.schemas.chat import (
    AudioMessage,
    AudioPart,
    AudioUrl,
    ChatAsked,
    ChatModel,
    ChatModels,
    Choice,
    Completion,
)
from luthier.server.service import Service

router = APIRouter(dependencies=[Known])
_BODY_BYTES = 64 * 2**20  # of a chat, whose recordings come as text within it
_HEARTBEAT_S = 2.0


@router.post(
    "/v1/chat/completions",
    summary="Music as a chat completion",
    response_model=Completion,
    responses={
        200: {
            "description": "The music; with `stream`, events `chat.completion.chunk` to `[DONE]`.",
            "content": events_of("ChatChunk", end="[DONE]"),
        },
        **problems(500, 503, 504, 507),
    },
    openapi_extra={"requestBody": body_of(ChatAsked, forms=False)["requestBody"]},
)
async def chat(request: Request, service: The) -> Any:
    """Queue what the last message of the user asks for, and answer with the music itself.

    `<prompt>` and `<lyrics>` mark what is what; plain words are for the planner to invent from,
    or, without a planner, describe the piece. Parts `input_audio` are the source and the reference.
    """
    limits = service.limits
    limits = Limits(limits.upload_bytes, limits.upload_files, _BODY_BYTES)
    # The key was in the header: nothing of a stranger's body is read.
    async with received(request, service.keys, limits, service.inventory) as body:
        wanted = checked(body.values, ChatAsked)
    identity = await run_in_threadpool(_accepted, service, wanted, body.client)
    options = (await run_in_threadpool(service.queue.get, identity)).request["options"]
    head: dict[str, Any] = {
        "id": f"chatcmpl-{uuid.uuid4().hex[:24]}",
        "created": int(time.time()),
        "model": PREFIX + (options.get("model") or service.default_model),
    }
    if wanted.stream:
        events = _events(service, identity, head)
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    message = await _message(service, identity)
    return Completion(**head, choices=[Choice(message=message)])


def _accepted(service: Service, wanted: ChatAsked, client: str) -> str:
    new_folder = service.inventory.new_upload
    body = task_of(wanted, new_folder, service.limits, has_planner=service.has_planner)
    body.client = client
    try:
        return service.accept(body).accepted.task.id
    finally:
        if body.folder and not body.keep:
            service.inventory.drop_upload(body.folder)


async def _message(service: Service, identity: str) -> AudioMessage:
    result = await result_of(service, identity)
    folder = service.places.results / identity / result["folder"]

    def audio() -> list[AudioPart]:
        urls = [data_url(folder / piece["path"]) for piece in result["pieces"]]
        return [AudioPart(audio_url=AudioUrl(url=url)) for url in urls]

    return AudioMessage(content=content_of(result), audio=await run_in_threadpool(audio))


async def _events(service: Service, identity: str, head: dict[str, Any]) -> AsyncIterator[str]:
    yield _chunk(head, {"role": "assistant", "content": "Generating music"})
    waiting = asyncio.create_task(_message(service, identity))
    reason = "stop"
    try:
        while not (await asyncio.wait([waiting], timeout=_HEARTBEAT_S))[0]:
            yield _chunk(head, {"content": "."})
        message = waiting.result()
        yield _chunk(head, {"content": f"\n\n{message.content}"})
        yield _chunk(head, {"audio": [part.model_dump() for part in message.audio]})
    except LuthierError as error:
        yield _chunk(head, {"content": f"\n\nError: {service.told(error)}"})
        reason = "error"
    finally:
        waiting.cancel()
    yield _chunk(head, {}, reason)
    yield "data: [DONE]\n\n"


def _chunk(head: dict[str, Any], delta: dict[str, Any], reason: str | None = None) -> str:
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    chunk = head | {"object": "chat.completion.chunk", "choices": choices}
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


@router.get("/api/v1/models", summary="The models as OpenRouter lists them")
async def chat_models(service: The) -> ChatModels:
    """For clients of chat completions; `/v1/models` says what each can do."""
    return ChatModels(
        data=[
            ChatModel(
                id=PREFIX + name,
                name=f"ACE-Step {name}",
                created=int(service.started),
                description=f"music: {', '.join(spec.tasks)}",
            )
            for name, spec in service.specs.items()
        ]
    )
