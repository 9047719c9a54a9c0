"""A line to a server that breaks."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class BrokenLine:
    """A TCP line to a server that is cut after so many bytes of answer, connection by connection.

    Args:
        cuts: for the first connections: bytes that come through; later ones are whole.
    """

    def __init__(self, address: str, cuts: list[int]) -> None:
        parts = urlsplit(address)
        self._target, self._cuts = (parts.hostname, parts.port), list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                most = self._cuts.pop(0) if self._cuts else None
                far = socket.create_connection(self._target)
                threading.Thread(target=self._up, args=(near, far), daemon=True).start()
                threading.Thread(target=self._down, args=(far, near, most), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)

    def _down(self, far: socket.socket, near: socket.socket, most: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while data := far.recv(65536):
                if most is not None and passed + len(data) >= most:
                    near.sendall(data[: most - passed])
                    break
                near.sendall(data)
                passed += len(data)
        for line in (near, far):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
