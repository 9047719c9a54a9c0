"""What routes share: the service, and the check of a key in the header."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from luthier.server.auth import missing_key
from luthier.server.service import Service


def service_of(request: Request) -> Service:
    """The parts of the server that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


The = Annotated[Service, Depends(service_of)]


def known(request: Request, service: The) -> None:
    """Let in whoever has a key in the header."""
    if not service.keys.check_header(request.headers.get("authorization")):
        raise missing_key()


Known = Depends(known)
