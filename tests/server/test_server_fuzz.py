"""Whatever bytes are sent, the answer is no breakdown, and has the shape of an answer.

Requests that are made from the description of the interface are in test_server_schemathesis.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from luthier.music.mini import onnx_folder
from luthier.server.acestep.release_fields import _KNOWN
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup

JSON = {"content-type": "application/json"}
POSTS = (
    *("/release_task", "/query_result", "/create_random_sample", "/format_input", "/v1/init"),
    *("/v1/create_sample", "/v1/chat/completions", "/v1/transcribe", "/v1/lora/load"),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["-1", "1,2", "C major", "<|audio_code_5|>", "6/8", "repaint", "[1,2]"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [*sorted(_KNOWN), "task_id_list", "sample_type", "temperature", "model", "messages", "slot"]
)
BODIES = st.dictionaries(NAMES | st.text(max_size=10), VALUES, max_size=6)


@pytest.fixture(scope="module")
def anything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    setup = WorkerSetup(home=home, models={"mini": onnx_folder()})
    config = ServerConfig(worker=setup, workers=0, queue_limit=10**6, answer_s=0.01)
    client = TestClient(
        create_app(config),
        base_url="http://127.0.0.1:8001",
        raise_server_exceptions=False,
    )
    with client:
        yield client


def is_an_answer(response: Any) -> None:
    told = "the server met an error that it does not know"
    assert response.status_code < 500 or told not in response.text
    assert {"data", "code", "error"} <= set(response.json())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), body=BODIES)
def test_any_json(anything: TestClient, path: str, body: dict[str, Any]) -> None:
    is_an_answer(anything.post(path, content=json.dumps(body), headers=JSON))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(POSTS),
    body=st.binary(max_size=300),
    kind=st.sampled_from(
        [
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "x" * 500,
            "text/plain",
            ";;;",
            "",
        ]
    ),
    head=st.sampled_from([b"", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n', b"{"]),
)
def test_any_bytes(anything: TestClient, path: str, body: bytes, kind: str, head: bytes) -> None:
    is_an_answer(anything.post(path, content=head + body, headers={"content-type": kind}))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_path_and_id(anything: TestClient, value: str) -> None:
    is_an_answer(anything.get("/v1/audio", params={"path": value, "expires": value}))
    is_an_answer(anything.get("/v1/tasks", params={"state": value, "before": value}))
    is_an_answer(anything.post("/query_result", data={"task_id_list": value}))
