"""The first and last to see a request: who may ask from where, safe headers, one line of log.

A page on another site can send forms to this machine, and a name that it controls can be made to
mean this machine: so the Host and the Origin of what changes something are checked.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.server.envelope import refused

_LOG = logging.getLogger("luthier.server.access")
LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Guard:
    """Wraps the app.

    Args:
        hosts: names in the Host header that are answered; empty for any.
        origins: web origins that may change something, beside this machine's own pages.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._app, self._hosts, self._origins = app, tuple(hosts), tuple(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            why = self._refusal(scope["method"], Headers(scope=scope))
            app = refused(403, why) if why else self._app
            await app(scope, receive, safely)
        finally:
            milliseconds = round((time.perf_counter() - started) * 1000, 1)
            facts = {"method": scope["method"], "path": scope["path"][:200], "status": status}
            _LOG.info("request", extra={"facts": facts | {"ms": milliseconds}})

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if self._hosts and name not in self._hosts:
            return (
                "this server does not answer to that host name: use the address that it printed "
                "when it started."
            )
        origin = headers.get("origin")
        if method in _SAFE_METHODS or origin is None or origin in self._origins:
            return None
        is_same = origin.partition("://")[2] == host
        if is_same or re.fullmatch(LOCAL_ORIGIN, origin):
            return None
        return "pages of that origin may not use this server: start it with --cors-origin."
