"""A multipart body → fields in memory and files on the disk, as it comes in, within limits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from luthier.errors import StorageError
from luthier.server.http.errors import Refusal, TooLargeError
from luthier.server.http.paths import AUDIO_SUFFIXES

# part name → field of a request
FILE_PARTS = {
    "ref_audio": "reference_audio",
    "reference_audio": "reference_audio",
    "ctx_audio": "source_audio",
    "src_audio": "source_audio",
}
_MOST_FIELDS = 200


@dataclass(frozen=True)
class Limits:
    """Of one body: bytes of all files, how many files, bytes of everything else."""

    upload_bytes: int
    upload_files: int
    body_bytes: int


class Intake:
    """Takes a multipart body piece by piece.

    Attributes:
        fields: text by part name.
        files: where uploaded recordings lie, by field of a request.
        digests: their sha256.
        folder: where they lie, if there were any.

    Args:
        boundary: of the body's content type.
        new_folder: makes the folder for the files, once there is one.
        before_file: called before a file is written; it may refuse.
    """

    def __init__(
        self,
        boundary: bytes,
        new_folder: Callable[[], Path],
        limits: Limits,
        before_file: Callable[[], None],
    ) -> None:
        self.fields: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        self.digests: dict[str, str] = {}
        self.folder: Path | None = None
        self._new_folder = new_folder
        self._limits, self._before_file = limits, before_file
        self._field_bytes = self._file_bytes = self._parts = 0
        self._header_name = self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name, self._is_file = "", False
        self._text = bytearray()
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._has_ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise Refusal(f"the multipart body cannot be read: {error}.") from error

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            Refusal: the body is no multipart, or over a limit.
            StorageError: the disk refused.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Refusal(f"the multipart body cannot be read: {error}.") from error
        except OSError as error:
            raise StorageError(f"the upload could not be kept: {error.strerror}.") from error

    def finish(self) -> None:
        """The body has ended; raise `Refusal` when it was cut off."""
        self.close()
        if not self._has_ended:
            raise Refusal("the multipart body ends too early: send all of it.")

    def close(self) -> None:
        """Let go of an open file."""
        if self._file is not None:
            self._file.close()

    def _on_part(self) -> None:
        self._headers, self._text, self._hash = {}, bytearray(), hashlib.sha256()
        self._name, self._is_file, self._file = "", False, None
        self._parts += 1
        # Also those without a name, or of one name, which leave nothing behind but took time.
        if self._parts > _MOST_FIELDS + len(FILE_PARTS):
            raise TooLargeError(f"a form has at most {_MOST_FIELDS} fields.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if not self._is_file:
            if len(self.fields) >= _MOST_FIELDS:
                raise TooLargeError(f"a form has at most {_MOST_FIELDS} fields.")
            return
        self._before_file()
        field = FILE_PARTS.get(self._name)
        if field is None:
            raise Refusal(
                f"there is no file part {self._name[:64]!r}: files are {', '.join(FILE_PARTS)}."
            )
        if field in self.files:
            raise Refusal(f"the part {self._name} came twice: send each recording once.")
        if len(self.files) >= self._limits.upload_files:
            raise TooLargeError(f"a request has at most {self._limits.upload_files} files.")
        suffix = Path(options[b"filename"].decode("utf-8", "replace")).suffix.lower()
        if suffix and suffix not in AUDIO_SUFFIXES:
            raise Refusal(
                f"a file with the ending {suffix[:16]!r} is no recording: audio files end in "
                f"{', '.join(AUDIO_SUFFIXES)}."
            )
        self.folder = self.folder or self._new_folder()
        path = self.folder / f"{field}{suffix}"
        self._file = path.open("xb")
        self.files[field] = path

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file_bytes += end - start
            if self._file_bytes > self._limits.upload_bytes:
                raise TooLargeError(
                    f"the files are larger than the {self._limits.upload_bytes / 1e6:g} MB that a "
                    "request may bring."
                )
            self._file.write(data[start:end])
            self._hash.update(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > self._limits.body_bytes:
            raise TooLargeError(f"the fields are larger than {self._limits.body_bytes} bytes.")
        self._text += data[start:end]

    def _on_part_end(self) -> None:
        if self._file is not None:
            empty = self._file.tell() == 0
            self._file.close()
            self._file = None
            field = FILE_PARTS[self._name]
            self.digests[field] = self._hash.hexdigest()
            if empty:  # a form in which no file was chosen
                self.files.pop(field).unlink()
                del self.digests[field]
        elif self._name and not self._is_file:
            self.fields[self._name] = self._text.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._has_ended = True
