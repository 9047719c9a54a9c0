"""Protocol Buffers' wire format, as far as a graph file needs it: read fields, write fields.

Playing has no `onnx` package, whose schema a whole parser would come with. The format is
https://protobuf.dev/programming-guides/encoding: a message is a row of fields, each a number, a
kind, and a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10  # bytes of 64 bits, seven in each


class WireError(ValueError):
    """The bytes are no message."""


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: of the field in its schema.
        value: a whole number, or the bytes of a text, a block of bytes or a message inside.
        raw: the field as it stands, number and kind included.
    """

    number: int
    value: int | memoryview
    raw: memoryview

    @property
    def text(self) -> str:
        """The value as text; `WireError` when it is none."""
        try:
            return str(self.message, "utf-8")
        except UnicodeDecodeError as error:
            raise WireError("a text is not UTF-8") from error

    @property
    def message(self) -> memoryview:
        """The value's bytes; `WireError` when it is a number."""
        if isinstance(self.value, int):
            raise WireError(f"field {self.number} is a number")
        return self.value


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message in their order.

    Raises:
        WireError: it ends too early, or holds what no message holds.
    """
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        value: int | memoryview
        if kind == _VARINT:
            value, at = _varint(message, at)
        else:
            if kind == _BYTES:
                length, at = _varint(message, at)
            elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
                length = 8 if kind == _EIGHT_BYTES else 4
            else:
                raise WireError(f"a field of kind {kind}")
            if length > len(message) - at:
                raise WireError("it ends too early")
            value, at = message[at : at + length], at + length
        yield Field(number, value, message[start:at])


def numbers(field: Field) -> list[int]:
    """The whole numbers of a repeated field: one, or several packed together."""
    if isinstance(field.value, int):
        return [field.value]
    found, at = [], 0
    while at < len(field.value):
        number, at = _varint(field.value, at)
        found.append(number)
    return found


def block(number: int, value: bytes | str) -> bytes:
    """A field that holds bytes, a text, or a message."""
    data = value.encode() if isinstance(value, str) else value
    return _encoded(number << 3 | _BYTES) + _encoded(len(data)) + data


def whole(number: int, value: int) -> bytes:
    """A field that holds a whole number, not negative."""
    return _encoded(number << 3 | _VARINT) + _encoded(value)


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for byte in message[at : at + _LONGEST_VARINT]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError("a number does not end")


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
