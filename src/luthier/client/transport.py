"""HTTP to one server: key, timeouts, attempts, and every failure as a `ServerError`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from luthier import __version__
from luthier.client.errors import ServerError
from luthier.client.retrying import PASSING, Patience
from luthier.errors import PathError

# Nothing is known of what the server did. A refused connection is one of them.
LOST = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
_MOST_TEXT = 2000


class Transport:
    """Asks the server at `address`.

    Args:
        address: as `server_address` gives it.
        key: sent in a header, never shown.
        timeout_s: how long a single read or write may take, seconds.
        patience_s: how long to try again what may still succeed, seconds.
        said: is told in a sentence why there is a pause.
    """

    def __init__(
        self,
        address: str,
        key: str | None,
        *,
        timeout_s: float,
        patience_s: float,
        said: Callable[[str], None],
    ) -> None:
        self.address, self._patience_s, self._said = address, patience_s, said
        headers = {"User-Agent": f"luthier/{__version__}"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        # Redirects are not followed: the key is for this server alone.
        self._http = httpx2.Client(
            headers=headers, timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, 10.0))
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        files: Mapping[str, Path] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        again_when_lost: bool = True,
    ) -> Any:
        """The envelope of an answer. With `files` the body goes into a form's field `param_obj`.

        Args:
            again_when_lost: the request may be sent once more although the server may have got it.

        Raises:
            ServerError: it refused, failed, or was not reached in time.
            PathError: a file to upload cannot be read.
        """
        patience = Patience(self._patience_s)
        while True:
            try:
                response = self._sent(method, path, body, files, params, headers)
            except LOST as error:
                never_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                why = self._lost(error)
                pause = patience.pause() if again_when_lost or never_sent else None
            except httpx2.HTTPError as error:
                raise self._lost(error) from error
            else:
                if response.is_success:
                    return _envelope(response)
                why = refusal(response)
                is_passing = response.status_code in PASSING
                pause = patience.pause(response.headers.get("retry-after")) if is_passing else None
            if pause is None:
                raise why
            self._said(f"{why} Trying again in {pause:.1f} s.")
            time.sleep(pause)

    @contextmanager
    def stream(
        self, path: str, *, timeout_s: float | None = None, accept: str = "*/*"
    ) -> Iterator[httpx2.Response]:
        """A successful answer, not yet read. What is lost on the way is raised as it is (`LOST`).

        Raises:
            ServerError: it refused.
        """
        timeout = self._http.timeout if timeout_s is None else httpx2.Timeout(timeout_s)
        headers = {"Accept": accept}
        with self._http.stream(
            "GET", self.address + path, headers=headers, timeout=timeout
        ) as response:
            if not response.is_success:
                response.read()
                raise refusal(response)
            yield response

    def _sent(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        files: Mapping[str, Path] | None,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
    ) -> httpx2.Response:
        with ExitStack() as open_files:
            content: dict[str, Any] = {}
            if files:
                content["data"] = {"param_obj": json.dumps(body or {})}
                content["files"] = {
                    part: (file.name, open_files.enter_context(_opened(file)))
                    for part, file in files.items()
                }
            elif body is not None:
                content["json"] = dict(body)
            return self._http.request(
                method, self.address + path, params=params, headers=headers, **content
            )

    def _lost(self, error: Exception) -> ServerError:
        why = str(error) or type(error).__name__
        return ServerError(f"the server {self.address} was not reached: {why}.")


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from error


def _envelope(response: httpx2.Response) -> Any:
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict) or "data" not in found:
        raise ServerError(
            f"{response.request.url.copy_with(query=None)} did not answer like a luthier server: "
            "is the address right?",
            response.status_code,
        )
    return found


def refusal(response: httpx2.Response) -> ServerError:
    """The server's own sentence, with its status."""
    status = response.status_code
    try:
        found = response.json()
    except ValueError:
        found = None
    sentence = (found.get("error") or found.get("detail")) if isinstance(found, dict) else None
    if not isinstance(sentence, str):
        sentence = f"the server answered {status} {response.reason_phrase}."
    # What controls a terminal is not said on one.
    sentence = "".join(c if c.isprintable() else " " for c in sentence)
    if not sentence.endswith((".", "?", "!")):
        sentence += "."
    return ServerError(sentence[:_MOST_TEXT], status)
