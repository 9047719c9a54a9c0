"""Runs a server until it is told to stop: one a home folder, and no open door by accident."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from luthier.errors import PathError, RequestError
from luthier.files import make_folder
from luthier.server.config import ServerConfig

_GRACE_S = 5
_FILES = 256  # beside connections: the queue, workers, uploads, downloads


def check_door(host: str, keys: tuple[str, ...], *, is_open: bool) -> None:
    """Refuse to be reached from other machines without a key, unless that is said to be meant.

    Raises:
        RequestError: the host is not this machine's own, and there is no key.
    """
    if keys or is_open or _is_loopback(host):
        return
    raise RequestError(
        f"--host {host} lets other machines in, and there is no key: give --api-key or set "
        "ACESTEP_API_KEY; or, where everybody may come in, say --allow-open."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run_server(config: ServerConfig, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; then stop the workers between two steps. Turns the garbage
    collector on, where it was off for the imports.

    Args:
        port: 0 takes a free one.
        ready: told the address once connections are taken.

    Raises:
        PathError: another server uses the same home.
        RequestError: the address is taken or not this machine's.
        LuthierError: what `create_app` raises.
    """
    import uvicorn

    from luthier.server.app import create_app
    from luthier.server.http.connections import PatientProtocol, allow_open_files

    allow_open_files(config.connections + _FILES)
    with _alone(config.worker.home), _listening(host, port) as listener:
        app = create_app(config)
        # What lives as long as the process: looking through it for garbage would stop everything
        # for tens of milliseconds, every few seconds under load.
        gc.freeze()
        gc.enable()
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
                http=PatientProtocol,
                ws="none",  # which the guard would not see
                limit_concurrency=config.connections,
                # By default uvicorn lets everybody on this machine say who they are.
                proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,
            )
        )
        name = f"[{host}]" if ":" in host else host
        # The kernel keeps whoever comes before the loop runs.
        ready(f"http://{name}:{listener.getsockname()[1]}")
        with suppress(KeyboardInterrupt):
            server.run([listener])


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(2048)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise RequestError(
                f"the address {host}:{port} cannot be used: {why}. Choose another "
                "--port, or stop what uses it."
            ) from error
        yield listener


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the home folder; the system lets go of it when the process dies."""
    if not home.exists():  # prompts and uploads are nobody else's business
        make_folder(home.parent)
        home.mkdir(mode=0o700, exist_ok=True)
    make_folder(home)
    if find_spec("fcntl") is None:  # Windows: on trust
        yield
        return
    import fcntl

    descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise PathError(
            f"another server uses {home}: stop it, or choose another folder with --home."
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
