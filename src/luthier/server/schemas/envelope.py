"""The shape around every native answer, and that of every error."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Data = TypeVar("Data")
REFS = "#/components/schemas/{model}"


class Shape(BaseModel):
    """A part of an answer: it holds what it says, and nothing else."""

    model_config = ConfigDict(extra="forbid")


class Taken(BaseModel):
    """A part of a body. Unknown fields are ignored, as everywhere in upstream's interface."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Asked(Taken):
    """A whole body."""

    ai_token: str | None = Field(
        None, description="a key, for clients that do not send the header", exclude=True
    )


class Extra(Shape):
    """Beside the answer."""

    notes: list[str] = Field(description="what of the request was ignored or put right")


class Envelope(Shape, Generic[Data]):
    """Upstream's envelope."""

    data: Data
    code: Literal[200] = 200
    error: None = None
    timestamp: int = Field(description="milliseconds since 1970")
    extra: Extra | None = None

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """`TaskAnswer` for `Envelope[Task]`, `TaskListAnswer` for `Envelope[list[Task]]`."""
        (data,) = params
        kinds = [kind.__name__ for kind in getattr(data, "__args__", [data])]
        plural = "List" if getattr(data, "__origin__", None) is list else ""
        return "Or".join(kinds) + plural + "Answer"


class Problem(Shape):
    """An error: the envelope, and the `detail` that others look for."""

    data: None = None
    code: int = Field(description="the HTTP status")
    error: str = Field(description="what was wrong, what is allowed, and what to do")
    timestamp: int = Field(description="milliseconds since 1970")
    extra: None = None
    detail: str = Field(description="the same as `error`")


# status → when
PROBLEMS = {
    400: "A value, body, file or path is not allowed; the sentence says which.",
    401: "The key is missing or wrong.",
    403: "Not for you: a path that is no result, another host name, a page of another origin.",
    404: "There is no such task, file or model.",
    409: "Its state does not allow this now.",
    413: "The body, a file or a field is too large.",
    415: "A content type that is not read.",
    422: "An `Idempotency-Key` came back with another request.",
    429: "The queue is full, or you ask too often; `Retry-After` says when to come again.",
    500: "What was asked for failed; the sentence says how.",
    503: "This server was started without the part that is needed, or it does not answer.",
    504: "It took too long; the task goes on.",
    507: "The server's disk is full.",
}


def example_of(data: Any) -> dict[str, Any]:
    """An enveloped example."""
    return Envelope[Any](data=data, timestamp=1_790_000_000_000).model_dump(mode="json")
