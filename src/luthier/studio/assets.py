"""The studio's files as they are served: bytes, type, strong entity tag.

All of them are read once. Their addresses hold a digest over everything, so that a browser may keep
them for ever and never mixes two releases: modules name each other relatively and stay below it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
_PAGE = "index.html"
_WORKER = "js/worker/"
_MODULE = '<link rel="modulepreload" href="/studio/{{{{digest}}}}/{path}">'
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; font-src 'self'; "
    "img-src 'self'; connect-src 'self'; media-src 'self' blob:; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Asset:
    """One file.

    Attributes:
        etag: a strong entity tag, with its quotes.
    """

    content: bytes
    media_type: str

    @cached_property
    def etag(self) -> str:
        """A strong entity tag, with its quotes."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


class Assets:
    """Every file of the studio by its path below `page/`.

    Attributes:
        digest: of all of them together.
    """

    def __init__(self) -> None:
        found = dict(_walk(files("luthier.studio").joinpath("page"), ""))
        self._page = found.pop(_PAGE).decode()
        self._assets = {path: Asset(found[path], _type_of(path)) for path in sorted(found)}
        whole = hashlib.sha256(self._page.encode())
        for path, asset in self._assets.items():
            whole.update(f"{path}\n{asset.etag}\n".encode())
        self.digest = whole.hexdigest()[:16]

    def find(self, path: str) -> Asset | None:
        """The file at `path`; only what was read at the start can be found."""
        return self._assets.get(path)

    def page(self, nonce: str) -> str:
        """The page; its own style elements (wavesurfer.js makes some) carry `nonce`."""
        # Named at once: else a browser learns of a module only from the one that imports it.
        names = [path for path in self._assets if path.endswith(".js")]
        modules = "\n".join(_MODULE.format(path=p) for p in names if not p.startswith(_WORKER))
        page = self._page.replace("{{modules}}", modules)
        return page.replace("{{digest}}", self.digest).replace("{{nonce}}", nonce)


def policy(nonce: str) -> str:
    """The content security policy of the page: this server's files only, nothing in line."""
    return _POLICY.format(nonce=nonce)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for item in folder.iterdir():
        if item.is_dir():
            found += _walk(item, f"{prefix}{item.name}/")
        else:
            found.append((prefix + item.name, item.read_bytes()))
    return found


def _type_of(path: str) -> str:
    return _TYPES[path[path.rindex(".") :]]
