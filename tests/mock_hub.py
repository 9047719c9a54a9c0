"""A small Hugging Face hub: the routes that `huggingface_hub` asks for a model, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """A model with one commit and its branches.

    Attributes:
        folder: its files; links are followed.
        card: the metadata of its card.
        gated: whether it answers as one whose terms were not accepted.
        revisions: branch or tag → commit.
    """

    folder: Path
    card: dict[str, Any] = field(default_factory=dict)
    gated: bool = False
    revisions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        commit = hashlib.sha1(str(self.folder).encode()).hexdigest()
        self.revisions = {"main": commit} | self.revisions

    def files(self) -> dict[str, Path]:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in paths}


class MockHub:
    """The server; `asked` are the paths that were asked for, with their methods."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.status = 0  # other than 0: of every answer
        self.slow_s = 0.0  # between two pieces of a file
        self.sent = 0  # bytes of files
        hub = self

        class Handler(_Handler):
            mock = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def downloaded(self) -> list[str]:
        """Names of files whose contents were sent, by repository."""
        found = (_FILE.fullmatch(line[4:]) for line in self.asked if line.startswith("GET /"))
        return sorted({f"{match[1]}/{match[3]}" for match in found if match})

    @contextmanager
    def running(self) -> Iterator[MockHub]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mock: MockHub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        self.mock.asked.append(f"{self.command} {path}")
        if self.mock.status:
            self._refuse(self.mock.status, "", "not now")
        elif match := _API.fullmatch(path):
            self._api(match[1], match[2] or "main")
        elif match := _FILE.fullmatch(path):
            self._file(match[1], match[2], match[3], with_body=with_body)
        else:
            self._refuse(404, "", f"no such route: {path}")

    def _repository(self, identity: str, revision: str) -> tuple[Repository, str] | None:
        found = self.mock.repositories.get(identity)
        if found is None:
            # As the real one: who is not logged in is not told whether it is private.
            self._refuse(401, "RepoNotFound", "Repository not found")
        elif found.gated:
            self._refuse(403, "GatedRepo", "Access to this model is restricted")
        elif revision in found.revisions:
            return found, found.revisions[revision]
        elif revision in found.revisions.values():
            return found, revision
        else:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _api(self, identity: str, revision: str) -> None:
        found = self._repository(identity, revision)
        if found is None:
            return
        repository, commit = found
        siblings = [
            {"rfilename": name, "size": path.stat().st_size, "blobId": _sha1(path)}
            for name, path in repository.files().items()
        ]
        tags = [f"license:{repository.card['license']}"] if "license" in repository.card else []
        value = {"id": identity, "modelId": identity, "sha": commit, "siblings": siblings}
        value |= {"private": False, "gated": False, "tags": tags, "cardData": repository.card}
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, identity: str, revision: str, name: str, *, with_body: bool) -> None:
        found = self._repository(identity, revision)
        if found is None:
            return
        repository, commit = found
        path = repository.files().get(name)
        if path is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        data = path.read_bytes()
        start = 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(asked[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        etag = hashlib.sha256(data).hexdigest()
        for key, value in {
            "ETag": f'"{etag}"',
            "X-Repo-Commit": commit,
            "X-Linked-Size": str(len(data)),
            "X-Linked-ETag": f'"{etag}"',
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(data) - start),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if not with_body:
            return
        for at in range(start, len(data), 65536):
            self.wfile.write(data[at : at + 65536])
            self.mock.sent += len(data[at : at + 65536])
            time.sleep(self.mock.slow_s)

    def _refuse(self, status: int, code: str, text: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", text)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
