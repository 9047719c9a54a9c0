"""Types of the musical facts in a track's `.json`: what people and tools write, made uniform."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from luthier.audio.keynames import parse_key
from luthier.errors import RequestError


def _key_name(value: str | None) -> str | None:
    try:
        return parse_key(value).name if value else None
    except RequestError as error:
        raise ValueError(str(error).removesuffix(".")) from error


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


KeyName = Annotated[str | None, AfterValidator(_key_name)]
TimeSignature = Annotated[str | None, BeforeValidator(_text)]  # tools write 4 as well as "4"
