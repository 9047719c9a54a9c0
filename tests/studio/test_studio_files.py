"""The page and its files as they are served: policy, types, tags, and that nothing is missing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from luthier.music.mini import onnx_folder
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup
from luthier.studio.assets import Assets

PAGE = Path(__file__).parents[2] / "src" / "luthier" / "studio" / "page"


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    setup = WorkerSetup(home=tmp_path / "home", models={"mini": onnx_folder()}, threads=1)
    return ServerConfig(worker=setup, workers=0)


@pytest.fixture
def client(config: ServerConfig) -> Iterator[TestClient]:
    with TestClient(create_app(config), base_url="http://127.0.0.1:8001") as client:
        yield client


def test_the_page_may_load_this_server_s_files_and_nothing_else(client: TestClient) -> None:
    answers = [client.get("/") for _ in range(2)]
    policies = [answer.headers["content-security-policy"] for answer in answers]
    assert policies[0] != policies[1]  # a nonce of its own each time
    for answer, policy in zip(answers, policies, strict=True):
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["connect-src"] == "'self'"
        assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert "unsafe" not in policy
        (nonce,) = set(re.findall(r'nonce="([^"]+)"', answer.text))
        assert f"'nonce-{nonce}'" in rules["style-src"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_the_page_has_no_code_or_style_of_its_own() -> None:
    page = (PAGE / "index.html").read_text()
    assert not re.search(
        r"<style|<script(?![^>]*\bsrc=)|\bstyle=|\son[a-z]+=|https?://(?!www.w3)", page
    )


def test_every_file_that_is_named_is_served_with_its_type(client: TestClient) -> None:
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg", ".woff2": "font/"}
    waiting = re.findall(r'(?:href|src)="(/studio/[^"]+)"', client.get("/").text)
    seen = set()
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert answer.headers["content-type"].startswith(types[Path(address).suffix])
        assert "immutable" in answer.headers["cache-control"]
        if address.endswith((".js", ".css")):
            named = re.findall(r'from "(\.[^"]+)"|url\("([^"]+)"\)|URL\("([^"]+)"', answer.text)
            waiting += [urljoin(address, next(filter(None, names))) for names in named]
    served = {address.split("/", 3)[3] for address in seen}
    there = {str(path.relative_to(PAGE)) for path in PAGE.rglob("*") if path.is_file()}
    beside = {path for path in there if path.endswith((".txt", ".json", ".html"))}
    assert served == there - beside


def test_a_browser_that_has_a_file_gets_no_second_copy(client: TestClient) -> None:
    address = f"/studio/{Assets().digest}/js/main.js"
    tag = client.get(address).headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    again = client.get(address, headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["js/none.js", "../assets.py", "%2e%2e/assets.py", "js/../../assets.py", "index.html", ""],
)
def test_only_the_studio_s_files_are_served(client: TestClient, path: str) -> None:
    assert client.get(f"/studio/{Assets().digest}/{path}").status_code == 404
    assert client.get("/studio/0000000000000000/js/main.js").status_code == 404


def test_the_page_is_open_where_data_is_not(config: ServerConfig) -> None:
    app = create_app(replace(config, keys=("secret",)))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        assert client.get("/").status_code == 200
        assert client.get("/v1/capabilities").status_code == 401
        assert client.get("/v1/tasks").status_code == 401


def test_shipped_libraries_are_those_that_are_written_down() -> None:
    vendor = PAGE / "vendor"
    rows = json.loads((vendor / "vendor.json").read_text())["files"]
    for row in rows:
        assert hashlib.sha256((vendor / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert "Copyright" in (vendor / row["licence_file"]).read_text()
        assert row.keys() >= {"package", "version", "path", "licence"}
    written = {"vendor.json"} | {row[name] for row in rows for name in ("file", "licence_file")}
    assert {path.name for path in vendor.iterdir()} == written
