"""The interface's OpenAPI document: FastAPI's, with what it cannot know of itself.

FastAPI does not see bodies that a route reads itself, nor the errors that are answered in one place
for all routes. `docs/openapi.json` is this document of a server with mini.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from luthier.server.schemas.chat import ChatChunk
from luthier.server.schemas.envelope import PROBLEMS, REFS, Problem
from luthier.server.schemas.tasks import Waiting

_DESCRIPTION = """\
ACE-Step 1.5's REST API over a durable queue, and what it lacks.

Native answers come in an envelope (`data`, `code`, `error`, `timestamp`, `extra`); errors have \
their real status, the envelope, and `detail`. A server that has keys wants one in the header \
`Authorization` (`Bearer KEY`, or the bare key); where a body is sent, its field `ai_token` will \
do."""


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What makes the document of `app`, once, when it is asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    summary=app.summary,
                    description=_DESCRIPTION,
                    routes=app.routes,
                )
            )
        return app.openapi_schema

    return document


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    # Named without being any route's own answer.
    for shape in (Problem, Waiting, ChatChunk):
        _named(shape.model_json_schema(ref_template=REFS, mode="serialization"), schemas)
    for methods in document["paths"].values():
        for operation in methods.values():
            _complete(operation, schemas)
    # What FastAPI says of a wrong parameter is not how it is answered here.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return _renamed(document)


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its envelopes under their titles, and its schemas in order."""
    text = json.dumps(document)
    for name, schema in document["components"]["schemas"].items():
        if name.startswith("Envelope_"):
            text = text.replace(f'"{name}"', f'"{schema["title"]}"')
            text = text.replace(f'/{name}"', f'/{schema["title"]}"')
    document = json.loads(text)
    document["components"]["schemas"] = dict(sorted(document["components"]["schemas"].items()))
    return document


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    responses = operation["responses"]
    if _is_frameworks(responses.get("422")):
        del responses["422"]
    wanted = [403]
    if "requestBody" in operation:
        wanted += [400, 413, 415]
        for content in operation["requestBody"]["content"].values():
            content["schema"] = _named(content["schema"], schemas)
    if operation.get("parameters"):
        wanted.append(400)
    if operation.get("security"):
        wanted += [401, 429]
    for status in wanted:
        responses.setdefault(str(status), _problem(status))
    for response in responses.values():
        for content in response.get("content", {}).values():
            if isinstance(content.get("example"), str):
                content["example"] = json.loads(content["example"])
    operation["responses"] = dict(sorted(responses.items()))


def _named(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A schema by its title, kept among `schemas` with all that it refers to."""
    schemas |= schema.pop("$defs", {})
    if "allOf" in schema:
        schema["allOf"] = [_named(part, schemas) for part in schema["allOf"]]
    if "title" not in schema:
        return schema
    schemas[schema["title"]] = schema
    return {"$ref": f"#/components/schemas/{schema['title']}"}


def _is_frameworks(response: dict[str, Any] | None) -> bool:
    content = (response or {}).get("content", {}).get("application/json", {})
    return str(content.get("schema", {}).get("$ref", "")).endswith("/HTTPValidationError")


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    found: dict[str, Any] = {
        "description": PROBLEMS[status],
        "content": {"application/json": {"schema": schema}},
    }
    if status == 429:
        again = {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}
        found["headers"] = {"Retry-After": again}
    return found
