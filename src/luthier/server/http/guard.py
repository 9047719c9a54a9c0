"""The first and last to see a request: who may ask from where, safe headers, one line of log.

A page on another site can send forms to this machine, and a name that it controls can be made to
mean this machine: so the Host and the Origin of what changes something are checked.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.server.http.auth import Keys
from luthier.server.http.envelope import WRONG_KEY, refused
from luthier.server.http.guesses import Guesses
from luthier.server.http.tallies import Tally
from luthier.server.http.throttle import Rates, network_of

_LOG = logging.getLogger("luthier.server.access")
LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
# Nobody can register a name that ends so.
_PRIVATE_NAMES = (".local", ".localhost", ".internal", ".lan", ".home.arpa")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
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
        rates: how often each client may ask; None for any number.
        keys: that tell clients apart.
        tally: takes every request in, by method, route and status.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str],
        origins: Sequence[str],
        *,
        rates: Rates | None,
        keys: Keys,
        tally: Tally,
    ) -> None:
        self._app, self._hosts, self._origins = app, tuple(hosts), tuple(origins)
        self._rates, self._keys, self._tally = rates, keys, tally
        self._guesses = Guesses()

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
                if headers.get("www-authenticate") == WRONG_KEY:
                    self._guesses.was_wrong(_address(scope))
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            headers = Headers(scope=scope)
            why = self._refusal(scope["method"], headers)
            app = refused(403, why) if why else _unclear(headers)
            app = app or self._slowed(scope, headers) or self._app
            await app(scope, receive, safely)
        finally:
            seconds = time.perf_counter() - started
            self._tally.add((_method(scope), _route(scope), str(status)), seconds)
            milliseconds = round(seconds * 1000, 1)
            facts = {"method": scope["method"], "path": scope["path"][:200], "status": status}
            _LOG.info("request", extra={"facts": facts | {"ms": milliseconds}})

    def _slowed(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        """What a client is told that asks too often, or with too many wrong keys."""
        if scope["path"] == "/health":
            return None
        address, key = _address(scope), headers.get("authorization")
        client = self._keys.client_of(key, None, address)
        # A body may hold a key as well.
        if self._keys.are_needed and (key or scope["method"] == "POST"):
            wait_s = self._guesses.wait_s(address, client)
            if wait_s:
                return _later("too many wrong keys came from your address", wait_s)
        wait_s = 0.0 if self._rates is None else self._rates.wait_s(client)
        return _later("you ask too often for this server", wait_s) if wait_s else None

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._hosts if self._hosts else not self._is_safe(name):
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

    def _is_safe(self, name: str) -> bool:
        """Whether no stranger can make this name mean this machine, or it would not help them."""
        if self._keys.are_needed or "." not in name or name.endswith(_PRIVATE_NAMES):
            return True
        if name in [urlsplit(origin).hostname for origin in self._origins]:
            return True
        return name.replace(".", "").isdecimal()


def _later(why: str, wait_s: float) -> ASGIApp:
    seconds = max(1, math.ceil(wait_s))
    return refused(429, f"{why}: try again in {seconds} s.", {"Retry-After": str(seconds)})


def _unclear(headers: Headers) -> ASGIApp | None:
    """Refuse a body with two lengths, of which something on the way may have believed the other."""
    if "transfer-encoding" not in headers or "content-length" not in headers:
        return None
    told = "a body has a Content-Length or a Transfer-Encoding, not both."
    return refused(400, told, {"Connection": "close"})


def _address(scope: Scope) -> str:
    return network_of((scope.get("client") or ("",))[0])


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _route(scope: Scope) -> str:
    """The route's pattern, of which there are few, not the path, of which there are many."""
    return str(getattr(scope.get("route"), "path", "other"))
