"""How everything is answered: upstream's envelope; errors as a sentence, in both its shapes."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from luthier.errors import LuthierError
from luthier.server.http.errors import QueueFullError, WrongKeyError, status_of

WRONG_KEY = 'Bearer error="invalid_token"'  # RFC 6750, section 3.1
_LOG = logging.getLogger("luthier.server.api")


def enveloped(data: Any, notes: Sequence[str] = ()) -> dict[str, Any]:
    """An answer of a native route; `notes` say what was ignored or put right."""
    return {
        "data": data,
        "code": 200,
        "error": None,
        "timestamp": int(time.time() * 1000),
        "extra": {"notes": list(notes)} if notes else None,
    }


def refused(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error with its real status: `detail` for those who look there, the envelope for others."""
    content = enveloped(None) | {"code": status, "error": message, "detail": message}
    return JSONResponse(content, status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Let the app answer every error in that shape, on its loop: a thread each would cost more."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, LuthierError)
        headers = {}
        if isinstance(error, QueueFullError):
            headers["Retry-After"] = str(error.retry_after_s)
        if status_of(error) == 401:
            headers["WWW-Authenticate"] = (
                WRONG_KEY if isinstance(error, WrongKeyError) else "Bearer"
            )
        return refused(status_of(error), request.app.state.service.told(error), headers)

    async def framework(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return refused(error.status_code, str(error.detail), dict(error.headers or {}))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        places = [f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()]
        return refused(400, "; ".join(places) + ".")

    async def unknown(_: Request, error: Exception) -> JSONResponse:
        where = "".join(traceback.format_tb(error.__traceback__))
        _LOG.error("error", extra={"facts": {"kind": type(error).__name__, "where": where}})
        return refused(500, "the server met an error that it does not know; its log has more.")

    app.add_exception_handler(LuthierError, known)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unknown)
