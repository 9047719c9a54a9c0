"""docs/server.md names every route that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.testclient import TestClient

PAGE = Path(__file__).parents[2] / "docs" / "server.md"


def test_the_table_of_routes_is_the_server_s(client: TestClient) -> None:
    rows = re.findall(r"^\| (GET|POST|PUT|DELETE) \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    paths = client.get("/openapi.json").json()["paths"]
    real = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert set(rows) == real
