"""The description of the interface: complete, true, and the file in docs/ in step with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from luthier.music.task_options import NO_EFFECT
from luthier.server.schemas.release import EXAMPLES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def problems_of(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    whole = schema | {"components": document["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


def test_the_file_in_docs_is_in_step(document: dict[str, Any]) -> None:
    told = "run: python docs/make_schemas.py"
    assert json.loads((DOCS / "openapi.json").read_text(encoding="utf-8")) == document, told


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(document["components"]["schemas"])
    text = json.dumps(document)
    found = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert found <= names
    assert "HTTPValidationError" not in text


def test_every_route_says_what_it_is_for(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)


def test_every_answer_has_a_shape(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert answer["description"]
            if status == "204":
                continue
            for media, content in answer["content"].items():
                if media == "application/json":
                    ways = content["schema"].get("anyOf", [content["schema"]])
                    assert all("$ref" in way for way in ways), (method, path, status)


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and status != "416":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (method, path, status)


def test_every_post_with_a_body_describes_it_with_examples(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if method not in ("post", "put") or "requestBody" not in operation:
            continue
        content = operation["requestBody"]["content"]
        schema = content["application/json"]["schema"]
        examples = content["application/json"].get("examples", {})
        name = schema["$ref"].rpartition("/")[2]
        if set(document["components"]["schemas"][name]["properties"]) == {"ai_token"}:
            continue
        assert examples, path
        for name, example in examples.items():
            assert problems_of(document, schema, example["value"]) == [], (path, name)


def test_every_example_of_an_answer_has_its_shape(document: dict[str, Any]) -> None:
    shown = 0
    for method, path, operation in operations(document):
        for answer in operation["responses"].values():
            content = answer.get("content", {}).get("application/json", {})
            if "example" in content:
                shown += 1
                wrong = problems_of(document, content["schema"], content["example"])
                assert wrong == [], (method, path)
    assert shown >= 10


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_the_examples_of_tasks_are_accepted_as_they_stand(client: TestClient, name: str) -> None:
    answer = client.post("/release_task", json=EXAMPLES[name])
    assert answer.status_code == 200
    assert answer.json()["extra"] is None


def test_release_task_takes_json_forms_and_files(document: dict[str, Any]) -> None:
    content = document["paths"]["/release_task"]["post"]["requestBody"]["content"]
    assert set(content) == {
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    }
    schemas = document["components"]["schemas"]
    parts = schemas["ReleaseTaskForm"]["allOf"][1]["properties"]
    for name in ("src_audio", "ctx_audio", "reference_audio", "ref_audio"):
        assert parts[name]["format"] == "binary"


def test_the_fields_of_a_task_are_described_with_ranges_and_names(
    document: dict[str, Any],
) -> None:
    fields = document["components"]["schemas"]["ReleaseTask"]["properties"]
    (number,) = (way for way in fields["bpm"]["anyOf"] if way["type"] == "integer")
    assert (number["minimum"], number["maximum"]) == (30, 300)
    assert fields["audioDuration"]["description"] == "the same as `duration_s`"
    assert "`keyscale`" in fields["key"]["description"]
    assert fields["batch_size"]["default"] == 2
    assert set(NO_EFFECT) <= set(fields)


def test_who_needs_a_key_is_said(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if path == "/health":
            assert "security" not in operation
        else:
            assert {"key": []} in operation["security"], (method, path)
            assert "401" in operation["responses"], (method, path)
