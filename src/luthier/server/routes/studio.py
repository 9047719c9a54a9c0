"""The studio's page and its files: open to everybody, as they hold nobody's data."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import HTMLResponse, Response

from luthier.server.http.errors import NotFoundError
from luthier.studio.assets import Assets, policy

router = APIRouter(include_in_schema=False)
_FOR_EVER = "public, max-age=31536000, immutable"
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POWERLESS = "camera=(), microphone=(), geolocation=(), payment=(), usb=(), midi=()"

assets = cache(Assets)


@router.head("/")
@router.get("/")
def page() -> HTMLResponse:
    """The studio; its policy has a nonce of its own each time, so it is not kept."""
    nonce = secrets.token_urlsafe(16)
    headers = {"Content-Security-Policy": policy(nonce), "Permissions-Policy": _POWERLESS}
    return HTMLResponse(assets().page(nonce), headers=headers | _ISOLATED)


@router.head("/studio/{digest}/{path:path}")
@router.get("/studio/{digest}/{path:path}")
def asset(
    digest: str, path: str, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """A file of this release; another release's page has to be loaded again."""
    found = assets().find(path) if digest == assets().digest else None
    if found is None:
        raise NotFoundError("the studio has no such file: load the page again.")
    headers = {"ETag": found.etag, "Cache-Control": _FOR_EVER} | _ISOLATED
    known = {tag.strip() for tag in (if_none_match or "").split(",")}
    if known & {found.etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


@router.get("/favicon.ico")
def favicon() -> Response:
    """Where browsers look without being told."""
    found = assets().find("icon.svg")
    assert found is not None
    return Response(found.content, media_type=found.media_type, headers=_ISOLATED)
