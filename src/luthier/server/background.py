"""What runs beside the routes, in threads of its own, as far as this server was asked for it."""

from __future__ import annotations

from typing import Any, Protocol

from luthier.server.home import WEBHOOKS_NAME
from luthier.server.service import Service


class Background(Protocol):
    """Something that starts and stops with the server."""

    def start(self) -> None:
        """Begin, with what an earlier server left."""

    def stop(self) -> None:
        """End; may wait for what is just being done."""


def background_of(service: Service) -> list[Background]:
    """What has to run for this server.

    Raises:
        RequestError: the secret for webhooks is none.
    """
    found: list[Background] = []
    if service.config.webhook_hosts:
        found.append(_webhook_sender(service))
    if service.desk.is_open:
        found.append(service.desk.runner)
    return found


def _webhook_sender(service: Service) -> Background:
    from luthier.server.webhooks.outbox import Signer
    from luthier.server.webhooks.sender import WebhookSender

    def describe(task_id: str) -> dict[str, Any]:
        return service.answers.task(service.queue.get(task_id))

    signer = Signer(service.places.home / WEBHOOKS_NAME)
    return WebhookSender(service.webhooks, service.webhook_hosts, signer, describe)
