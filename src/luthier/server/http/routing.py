"""What routes share: the service, the check of a key, a body read as a model, the documentation.

A route says what it takes and answers with `described`, and reads its body with `asked`:

    class Load(Asked):  # of shapes.envelope
        model_config = ConfigDict(json_schema_extra={"examples": [{"lora_path": "lofi"}]})
        lora_path: str = Field(description="below an --adapter-root")

    @router.post("/v1/lora/load", summary="Load an adapter",
                 **described(Loaded, example={"message": "..."}, errors=(404,), body=Load))
    async def load(request: Request, service: The) -> dict[str, Any]:
        wanted = await asked(request, service, Load)
        return enveloped({"message": ...})
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from luthier.errors import RequestError
from luthier.server.http.auth import missing_key
from luthier.server.http.body import received
from luthier.server.schemas.envelope import PROBLEMS, REFS, Envelope, Problem, example_of
from luthier.server.service import Service

Wanted = TypeVar("Wanted", bound=BaseModel)
_bearer = HTTPBearer(
    scheme_name="key", auto_error=False, description="one of the server's keys, if it has any"
)


async def service_of(request: Request) -> Service:
    """The parts of the server that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


The = Annotated[Service, Depends(service_of)]


async def known(request: Request, service: The, _: Annotated[Any, Depends(_bearer)]) -> None:
    """Let in whoever has a key in the header."""
    if not service.keys.check_header(request.headers.get("authorization")):
        raise missing_key()


Known = Depends(known)


async def asked(request: Request, service: Service, kind: type[Wanted]) -> Wanted:
    """The body (JSON, a form, none) of a sender with a key in the header or in `ai_token`.

    Raises:
        AuthError: no key, or a wrong one.
        Refusal: too large, not readable.
        RequestError: a value is not allowed.
    """
    async with received(
        request, service.keys, service.limits, service.inventory, optional=True
    ) as body:
        return checked(body.values, kind)


def checked(values: Mapping[str, Any], kind: type[Wanted]) -> Wanted:
    """`values` as a model; raise one `RequestError` in sentences."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RequestError(" ".join(map(_sentence, error.errors()))) from error


def _sentence(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{place}: {message}." if place else f"{message}."


def described(
    data: Any,
    *,
    example: Any = None,
    errors: Sequence[int] = (),
    body: type[BaseModel] | Mapping[str, Any] | None = None,
    forms: bool = True,
) -> dict[str, Any]:
    """Arguments for a route, so that its OpenAPI is complete.

    400, 401, 403 and 429 need not be named: `openapi` adds them where they can happen.

    Args:
        data: the type of the envelope's `data`.
        example: of it.
        errors: the statuses of `PROBLEMS` that it may answer.
        body: the model of a body that is read with `asked`, or a JSON schema.
        forms: the body may be a form too.
    """
    answer: dict[str, Any] = {"description": "Done."}
    if example is not None:
        # As text, which `openapi` reads: FastAPI would drop its nulls.
        text = json.dumps(example_of(data=example))
        answer["content"] = {"application/json": {"example": text}}
    arguments: dict[str, Any] = {
        "response_model": Envelope[data],
        "responses": {200: answer} | problems(*errors),
    }
    if body is not None:
        arguments["openapi_extra"] = body_of(body, forms=forms)
    return arguments


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these errors."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        found[status] = {"model": Problem, "description": PROBLEMS[status]}
    return found


def events_of(data: str, *, end: str | None = None) -> dict[str, Any]:
    """The `content` of a stream of server-sent events, whose data is the schema named `data`.

    Args:
        end: the data of the last event, where that is no JSON.
    """
    schema = {"$ref": REFS.format(model=data)}
    text: dict[str, Any] = {"type": "string"}
    text |= {"contentMediaType": "application/json", "contentSchema": schema}
    if end is not None:
        text = {"anyOf": [text, {"type": "string", "const": end}]}
    properties = {"event": {"type": "string"}, "data": text}
    event = {"type": "object", "properties": properties, "required": ["data"]}
    return {"text/event-stream": {"itemSchema": event}}


def body_of(
    body: type[BaseModel] | Mapping[str, Any],
    *,
    forms: bool = True,
    files: Mapping[str, str] | None = None,
    examples: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its own body.

    Args:
        body: a model, or a JSON schema whose references lie in its `$defs`.
        forms: it may be a form too.
        files: the parts of a multipart form that are files, with what each is.
        examples: by name, of the JSON body; those of the model when not given.
    """
    schema = dict(body) if isinstance(body, Mapping) else schema_of(body)
    given = schema.pop("examples", [])
    if examples is None:
        examples = {f"example{n}": value for n, value in enumerate(given, 1)}
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if examples:
        shown = {name: {"value": value} for name, value in examples.items()}
        content["application/json"]["examples"] = shown
    if forms:
        content["application/x-www-form-urlencoded"] = {"schema": schema}
    if files:
        parts = {
            name: {"type": "string", "format": "binary", "description": what}
            for name, what in files.items()
        }
        both = {"title": f"{schema['title']}Form", "allOf": [schema, {"properties": parts}]}
        content["multipart/form-data"] = {"schema": both}
    # A key in the header, or in the body's `ai_token`.
    return {"requestBody": {"content": content}, "security": [{"key": []}, {}]}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model, as it is sent."""
    return model.model_json_schema(
        ref_template=REFS, schema_generator=GenerateJsonSchema, mode="validation"
    )
