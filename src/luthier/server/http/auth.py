"""Keys, and links that play without one. Keys are compared in constant time and never logged."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from luthier.files import make_folder
from luthier.server.http.errors import AuthError, WrongKeyError

SECRET_BYTES = 32


class Keys:
    """The keys that let a client in; without any, everybody is let in."""

    def __init__(self, keys: Sequence[str]) -> None:
        # Hashes are equally long, so that not even a key's length shows in the time.
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @property
    def fingerprint(self) -> bytes:
        """What changes when a key comes or goes; it tells nothing about any of them."""
        return hashlib.sha256(b"".join(sorted(self._digests))).digest()

    @property
    def are_needed(self) -> bool:
        """Whether a client needs one."""
        return bool(self._digests)

    def fits(self, key: str) -> bool:
        """Whether it is one of the keys; all are looked at, whichever fits."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return any([hmac.compare_digest(digest, known) for known in self._digests])

    def client_of(self, header: str | None, token: object, address: str) -> str:
        """Who asks, for taking turns: the number of the key, else the address."""
        said = [key for key in (_key_in(header), token) if key and isinstance(key, str)]
        for key in said:
            digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
            fitting = [hmac.compare_digest(digest, known) for known in self._digests]
            if any(fitting):
                return f"key {fitting.index(True) + 1}"
        return address

    def check_header(self, header: str | None) -> bool:
        """Whether the Authorization header (`Bearer K` or bare `K`) lets its sender in.

        Raises:
            WrongKeyError: it holds a wrong key.
        """
        if not self.are_needed:
            return True
        key = _key_in(header)
        if not key:
            return False
        if not self.fits(key):
            raise WrongKeyError("Invalid API key")
        return True

    def check_token(self, token: object) -> bool:
        """Whether the body's `ai_token` lets its sender in; False when there is none.

        Raises:
            WrongKeyError: it is wrong.
        """
        if not self.are_needed:
            return True
        if token is None or token == "":
            return False
        if not isinstance(token, str) or not self.fits(token):
            raise WrongKeyError("Invalid ai_token")
        return True


def _key_in(header: str | None) -> str:
    text = (header or "").strip()
    scheme, _, rest = text.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else text


def missing_key() -> AuthError:
    """What is said to a client that gave no key."""
    return AuthError("Missing ai_token or Authorization header")


class Links:
    """Links to results that hold for a while, so that a browser's player needs no header.

    Args:
        secret_file: the signing secret; made where it is missing, readable by its owner only.
        life_s: how long a link holds, seconds.
        keys: that let in those who got a link; it ends when one of them is taken away.
    """

    def __init__(self, secret_file: Path, life_s: float, keys: Keys | None = None) -> None:
        bound_to = keys.fingerprint if keys else b""
        self._secret = hmac.new(_secret(secret_file), bound_to, hashlib.sha256).digest()
        self._life_s = life_s

    def link(self, path: str, *, signed: bool) -> str:
        """The address of a result; `signed` where clients need a key."""
        address = f"/v1/audio?path={quote(path, safe='')}"
        if not signed:
            return address
        # Whole hours, so that a polled result keeps its address and a player its place.
        until = int((time.time() + self._life_s) // 3600 + 1) * 3600
        return f"{address}&expires={until}&signature={self._signature(path, until)}"

    def holds(self, path: str, expires: str, signature: str) -> bool:
        """Whether a link is ours and still holds."""
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 16):
            return False
        right = self._signature(path, int(expires)).encode()
        same = hmac.compare_digest(right, signature.encode("utf-8", "surrogatepass"))
        return same and int(expires) > time.time()

    def _signature(self, path: str, until: int) -> str:
        text = f"{until}\n{path}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def _secret(path: Path) -> bytes:
    make_folder(path.parent)
    try:
        # Exclusive, and private from its first moment.
        with open(path, "xb", opener=_private) as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
    except FileExistsError:
        pass
    found = path.read_bytes()
    if len(found) != SECRET_BYTES:  # cut off by a crash: old links end, nothing else
        path.unlink()
        return _secret(path)
    return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
