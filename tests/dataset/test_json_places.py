from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.dataset.json_locations import Document, raise_problems, read_document
from luthier.errors import DatasetError, PathError

TEXT = """{
  "presets": [
    {"id": "a, \\"b\\"", "tags": ["x", "y"]},
    {"id": "c", "tags": []}
  ],
  "last": 5
}
"""


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "file.json"
    path.write_text(TEXT)
    return read_document(path)


@pytest.mark.parametrize(
    ("steps", "key", "place"),
    [
        ((), False, "1:1"),
        (("presets",), False, "2:14"),
        (("presets",), True, "2:3"),
        (("presets", 0, "tags", 1), False, "3:38"),
        (("presets", 1, "tags"), True, "4:17"),
        (("last",), False, "6:11"),
        (("presets", 1, "none"), False, "4:5"),  # the innermost part that is there
        (("presets", 7), False, "2:14"),
        (("last", "deeper"), False, "6:11"),
    ],
)
def test_where_a_part_stands(document, steps, key, place):
    assert document.at(*steps, key=key) == f"{document.path}:{place}"


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(_values, st.sampled_from([None, 1, 2]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_part_is_found_where_it_is(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    document = Document("f", text, value)  # type: ignore[arg-type]
    lines = text.split("\n")
    parts = [((), value)]
    for steps, part in parts:
        _, line, column = document.at(*steps).rsplit(":", 2)
        rest = "\n".join([lines[int(line) - 1][int(column) - 1 :], *lines[int(line) :]])
        assert json.JSONDecoder().raw_decode(rest)[0] == part
        if isinstance(part, dict):
            parts += [((*steps, name), inner) for name, inner in part.items()]
        elif isinstance(part, list):
            parts += [((*steps, place), inner) for place, inner in enumerate(part)]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('{"a": 1,\n "b" 2}', PathError, r"f\.json:2:6: this is not valid JSON: Expecting ':'"),
        (
            '{"x": {"a": 1,\n  "a": 2}}',
            DatasetError,
            r"f\.json:2:3: 'a' stands here for the sec",
        ),
        ("\udcff", PathError, "not UTF-8"),
        ("[" * 100_000, PathError, "nested too deeply"),
        (None, PathError, "does not exist"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, text, error, message):
    path = tmp_path / "f.json"
    if text is not None:
        path.write_text(text, errors="surrogateescape")
    with pytest.raises(error, match=message):
        read_document(path)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "f.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_document(path).value == {"a": 1}


def test_one_problem_is_a_sentence_and_many_are_a_list():
    raise_problems([])
    with pytest.raises(DatasetError, match=r"^a\.$"):
        raise_problems(["a."])
    with pytest.raises(DatasetError, match="25 things are wrong") as caught:
        raise_problems([f"{n}." for n in range(25)])
    assert str(caught.value).endswith("19.\n  and 5 more.")
