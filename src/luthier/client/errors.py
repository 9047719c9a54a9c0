"""What can go wrong between a client and its server, as one exception."""

from __future__ import annotations

from typing import Any

from luthier.errors import LuthierError, RequestError

_WRONG_REQUEST = (400, 413, 415, 422)


class ServerError(LuthierError):
    """A server refused, failed, or was not reached.

    Attributes:
        status: of the answer; None where there was none.
    """

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        # The same exit code as of the same mistake without a server.
        is_mine = status in _WRONG_REQUEST
        self.exit_code = RequestError.exit_code if is_mine else LuthierError.exit_code

    def to_json(self) -> dict[str, Any]:
        """What --json prints of it, the status included."""
        return {**super().to_json(), "status": self.status}
