"""What the server refuses, as errors with the HTTP status that each becomes."""

from __future__ import annotations

from luthier.errors import LuthierError, RequestError, StorageError


class Refusal(RequestError):
    """A request that is answered with a status of its own."""

    status = 400


class NotFoundError(Refusal):
    """There is no such task or file."""

    status = 404


class ConflictError(Refusal):
    """The task is in a state that does not allow this."""

    status = 409


class TooLargeError(Refusal):
    """A body, file or field is larger than is allowed."""

    status = 413


class WrongTypeError(Refusal):
    """A content type that the server does not read."""

    status = 415


class ReusedKeyError(Refusal):
    """An idempotency key came back with another request."""

    status = 422


class AuthError(Refusal):
    """The key is missing or wrong."""

    status = 401


class WrongKeyError(AuthError):
    """A key was given, and it is none of ours."""


class ForbiddenError(Refusal):
    """A path, host or origin that is not allowed."""

    status = 403


class FailedError(Refusal):
    """What was asked for was tried, and failed."""

    status = 500


class SlowError(Refusal):
    """What was asked for takes longer than anybody waits."""

    status = 504


class NotReadyError(Refusal):
    """A part that this server was started without, or that does not answer."""

    status = 503


class QueueFullError(Refusal):
    """The queue is full; `retry_after_s` says when to come again."""

    status = 429

    def __init__(self, limit: int, retry_after_s: int) -> None:
        super().__init__(
            f"Server busy: queue is full. It holds {limit} tasks; try again in {retry_after_s} s."
        )
        self.retry_after_s = retry_after_s


def status_of(error: LuthierError) -> int:
    """The HTTP status that an error becomes."""
    if isinstance(error, Refusal):
        return error.status
    if isinstance(error, StorageError):
        return 507
    return 400 if isinstance(error, RequestError) else 500
