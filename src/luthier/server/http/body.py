"""The body of a request → its values, whatever it is: JSON, a form, a form with files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from luthier.server.http.auth import Keys, missing_key
from luthier.server.http.errors import Refusal, TooLargeError, WrongTypeError
from luthier.server.http.multipart import Intake, Limits
from luthier.server.http.strict_json import strict_json
from luthier.server.queue.inventory import Inventory

_CHUNK_WAIT_S = 30.0
_SLOWEST_BYTES = 4096  # a second
_FORM_OVERHEAD = 2**16  # boundaries and headers of parts


@dataclass
class Body:
    """What came: values by name, and where uploaded files lie.

    Attributes:
        files: by field of a request.
        folder: of the files; None when there are none. Who keeps it sets `keep`.
        client: who sent it; see `Keys.client_of`.
    """

    values: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    keep: bool = False
    client: str = ""


@asynccontextmanager
async def received(
    request: Request, keys: Keys, limits: Limits, inventory: Inventory, *, optional: bool = False
) -> AsyncIterator[Body]:
    """Read a body whose sender has a key in the header, or in its field `ai_token`.

    A wrong header is refused before anything is read; a file is written only after a key was seen.
    Files are removed at the end unless `keep` was set. A body that is `optional` may be empty.

    Raises:
        AuthError: no key, or a wrong one.
        Refusal: over a limit, cut off, or not readable.
    """
    header = request.headers.get("authorization")
    is_known = keys.check_header(header)
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise WrongTypeError("a compressed body is not read: send it as it is.")
    kind, options = parse_options_header(request.headers.get("content-type", "").encode("latin-1"))
    body: Body | None = None
    intake: Intake | None = None
    try:
        if kind == b"multipart/form-data":

            def before_file() -> None:
                if not keys.check_token(fields.get("ai_token")) and not is_known:
                    raise missing_key()

            boundary = options.get(b"boundary", b"")
            intake = Intake(boundary, inventory.new_upload, limits, before_file)
            fields = intake.fields

            async def feed(chunk: bytes) -> None:
                assert intake is not None
                await run_in_threadpool(intake.feed, chunk)

            most = limits.upload_bytes + limits.body_bytes + _FORM_OVERHEAD
            await _each_chunk(request, most, feed)
            await run_in_threadpool(intake.finish)
            folder = intake.folder if intake.files else None
            body = Body(dict(fields), intake.files, intake.digests, folder)
        else:
            data = bytearray()

            async def take(chunk: bytes) -> None:
                data.extend(chunk)

            await _each_chunk(request, limits.body_bytes, take)
            body = Body(_values(kind, bytes(data)) if data or not optional else {})
        if not keys.check_token(body.values.get("ai_token")) and not is_known:
            raise missing_key()
        address = request.client.host if request.client else ""
        body.client = keys.client_of(header, body.values.get("ai_token"), address)
        yield body
    finally:
        if intake is not None and not (body and body.keep):
            intake.close()
            if intake.folder is not None:
                await run_in_threadpool(inventory.drop_upload, intake.folder)


async def _each_chunk(
    request: Request, most: int, take: Callable[[bytes], Awaitable[None]]
) -> None:
    too_large = TooLargeError(f"the body is larger than {most / 1e6:g} MB.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most:
        raise too_large
    total, chunks, started = 0, aiter(request.stream()), time.monotonic()
    while True:
        # Slow lines have their time; who sends a letter now and then does not hold a place.
        allowed_s = _CHUNK_WAIT_S + total / _SLOWEST_BYTES - (time.monotonic() - started)
        try:
            async with asyncio.timeout(min(_CHUNK_WAIT_S, allowed_s)):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise Refusal("the body comes too slowly: send it faster.") from None
        except ClientDisconnect:
            raise Refusal("the client went away.") from None
        if chunk is None:
            return
        total += len(chunk)
        if total > most:
            raise too_large
        if chunk:
            await take(chunk)


def _values(kind: bytes, data: bytes) -> dict[str, Any]:
    """The values of a body without files."""
    start = data.lstrip()[:1]
    if kind == b"application/json" or kind.endswith(b"+json"):
        return _from_json(data)
    if start in (b"{", b"["):  # also where curl -d calls it a form
        return _from_json(data)
    if kind == b"application/x-www-form-urlencoded":
        return _from_form(data)
    if b"=" in data:
        return _from_form(data)
    raise WrongTypeError(
        "the body must be application/json, multipart/form-data or "
        "application/x-www-form-urlencoded."
    )


def _from_json(data: bytes) -> dict[str, Any]:
    found = strict_json(data, "the body")
    if not isinstance(found, dict):
        raise Refusal("the JSON body must be an object.")
    return found


def _from_form(data: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(data.decode("utf-8", "replace"), True, max_num_fields=200)
    except ValueError as error:
        raise TooLargeError(f"the form cannot be read: {error}.") from error
    return dict(pairs)
