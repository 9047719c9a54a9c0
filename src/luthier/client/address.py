"""Where a server is, and the key to it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from luthier.errors import RequestError

SERVER_VARIABLE = "LUTHIER_SERVER"
KEY_VARIABLES = ("LUTHIER_API_KEY", "ACESTEP_API_KEY")


def server_address(text: str) -> str:
    """`text` as the address of a server, without a slash at the end; http where it says nothing.

    Raises:
        RequestError: it is no address, or holds a password.
    """
    whole = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        parts = urlsplit(whole)
        has_place = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_place = False
    if not has_place or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise RequestError(
            f"{text!r} is no address of a server: write it as http://HOST:PORT, for example "
            "http://127.0.0.1:8001."
        )
    if "@" in parts.netloc:  # not repeated in the sentence: it is a secret
        raise RequestError(
            "the server's address holds a name or a password: give the key by "
            f"{KEY_VARIABLES[0]} or --api-key-file instead."
        )
    return whole.rstrip("/")


def key_from(file: Path | None = None) -> str | None:
    """The key in `file`, else that of the environment; None when there is none.

    Raises:
        RequestError: the file cannot be read or holds no key.
    """
    if file is not None:
        try:
            lines = file.expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise RequestError(f"the key file {file} cannot be read: {why}.") from error
        keys = [line.strip() for line in lines if line.strip()]
        if not keys:
            raise RequestError(f"the key file {file} holds no key: write one on its first line.")
        return checked_key(keys[0])
    for name in KEY_VARIABLES:
        # A server's variable may hold several: any of them opens.
        keys = [key.strip() for key in os.environ.get(name, "").split(",") if key.strip()]
        if keys:
            return checked_key(keys[0])
    return None


def checked_key(key: str) -> str:
    """`key`, when a header can hold it; else a `RequestError` that does not repeat it."""
    if not key.isascii() or not key.isprintable():
        raise RequestError("the API key holds letters that cannot be sent: use plain ASCII.")
    return key
