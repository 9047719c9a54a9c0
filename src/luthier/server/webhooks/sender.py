"""Tells webhooks, in threads of its own: whatever a receiver does, nobody here waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2

from luthier import __version__
from luthier.errors import LuthierError, RequestError, StorageError
from luthier.server.http.errors import NotFoundError
from luthier.server.webhooks.allowed_hosts import WebhookHosts
from luthier.server.webhooks.outbox import Due, Signer, Webhooks, message

_LOG = logging.getLogger("luthier.server.webhooks.outbox")
_LOOK_S = 0.5
_TIDY_S = 600.0
_THREADS = 4
_TIMEOUT = httpx2.Timeout(10.0, connect=5.0)
_GONE = 410  # the receiver wants no more of this


class WebhookSender:
    """Looks for webhooks that are due and tells them; starts when it is told to.

    Args:
        describe: a task by its id, as clients see it; raises `NotFoundError`.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        hosts: WebhookHosts,
        signer: Signer,
        describe: Callable[[str], dict[str, Any]],
    ) -> None:
        self._webhooks, self._hosts = webhooks, hosts
        self._signer, self._describe = signer, describe
        self._busy: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="webhook")

    def start(self) -> None:
        """Begin, with what an earlier server left."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what was not told is told after the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        tidied = float("-inf")
        while not self._stop.is_set():
            try:
                if time.monotonic() - tidied > _TIDY_S:
                    tidied = time.monotonic()
                    self._webhooks.forget_gone()
                for due in self._webhooks.due(_THREADS + len(self._busy)):
                    if due.task_id not in self._busy:
                        self._busy.add(due.task_id)
                        self._pool.submit(self._tell, due)
            except StorageError as error:
                _LOG.error("queue not reached", extra={"facts": {"error": str(error)}})
            self._stop.wait(_LOOK_S)

    def _tell(self, due: Due) -> None:
        facts: dict[str, Any] = {"task": due.task_id, "attempt": due.attempts + 1}
        try:
            try:
                status = self._sent(due)
            except NotFoundError:
                return
            except RequestError as error:  # the allow-list has changed: no attempt will help
                self._webhooks.given_up(due, str(error))
                facts["error"] = str(error)
            except (LuthierError, httpx2.HTTPError) as error:
                # Not the message of an HTTP error, which holds the address.
                known = isinstance(error, LuthierError)
                facts["error"] = str(error) if known else type(error).__name__
                facts["again"] = self._webhooks.failed(due, facts["error"])
            else:
                facts["status"] = status
                self._settle(due, status, facts)
        except StorageError as error:
            facts["error"] = str(error)
        finally:
            self._busy.discard(due.task_id)
        _LOG.info("webhook", extra={"facts": facts})

    def _settle(self, due: Due, status: int, facts: dict[str, Any]) -> None:
        if 200 <= status < 300:
            self._webhooks.delivered(due)
        elif status == _GONE:
            self._webhooks.given_up(due, f"answered {status}")
        else:
            facts["again"] = self._webhooks.failed(due, f"answered {status}")

    def _sent(self, due: Due) -> int:
        """Post it; return the status. What the receiver says is not read."""
        identity, body = message(self._describe(due.task_id))
        target = self._hosts.target(due.url)
        headers = {
            "Host": target.header,
            "Content-Type": "application/json",
            "User-Agent": f"luthier/{__version__}",
            **self._signer.headers(identity, body),
        }
        # Of the environment the certificates (SSL_CERT_FILE), but no proxy, which would look the
        # name up again.
        trusted = httpx2.create_ssl_context()
        with (
            httpx2.Client(
                timeout=_TIMEOUT, trust_env=False, verify=trusted, follow_redirects=False
            ) as http,
            http.stream(
                "POST",
                target.url,
                content=body,
                headers=headers,
                extensions={"sni_hostname": target.host},
            ) as response,
        ):
            return response.status_code
