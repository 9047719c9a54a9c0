"""The whole described interface under generated requests: no server errors, and every answer has a
declared status, content type, headers and shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.python.asgi import get_client
from schemathesis.specs.openapi import checks

from luthier.music.mini import onnx_folder
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
schema = schemathesis.openapi.from_dict(json.loads(DOCUMENT.read_text(encoding="utf-8")))
HEADERS = {"Authorization": "Bearer key"}
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# A server without planner and workers says so; that is an answer, not a breakdown.
MAY_FAIL = (500, 503, 504)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    setup = WorkerSetup(home=tmp_path_factory.mktemp("home"), models={"mini": onnx_folder()})
    config = ServerConfig(
        worker=setup, workers=0, keys=("key",), hosts=(), queue_limit=10**6, answer_s=0.05
    )
    with get_client(create_app(config)) as client:
        client.headers.update(HEADERS)
        yield client


def check(case: Any, session: Any) -> None:
    response = case.call(session=session, base_url="http://127.0.0.1:8001")
    told = str(response.status_code) in case.operation.definition.raw["responses"]
    chosen = CHECKS[1:] if told and response.status_code in MAY_FAIL else CHECKS
    case.validate_response(response, checks=chosen)


@schema.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
)
def test_a_few_requests_to_every_route(case: Any, session: Any) -> None:
    check(case, session)


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
def test_many_requests_to_every_route(case: Any, session: Any) -> None:
    check(case, session)
