"""Ranks and alphas of single layers: as peft reads its patterns, and never for long."""

from __future__ import annotations

import time
from typing import Any

import pytest
from peft.utils.other import get_pattern_key

from luthier.errors import AdapterError
from luthier.music.adapters.patterns import Patterns

LAYERS = [
    f"{prefix}layers.{i}.{part}"
    for prefix in ("", "decoder.")
    for i in (0, 1, 11)
    for part in ("self_attn.q_proj", "cross_attn.to_out.0", "mlp.up_proj")
]


@pytest.mark.parametrize(
    "patterns",
    [
        {"q_proj": 4},
        {"self_attn.q_proj": 4, "q_proj": 5},
        {"layers.1.self_attn.q_proj": 4},
        {"attn.q_proj": 4},  # not behind a dot
        {r"layers\.\d+\.mlp\..*": 4, "to_out.0": 5},
        {r"layers\.(0|1)\.self_attn\.q_proj": 4},
        {r"(?:0|11)\.mlp\.up_proj": 4},
        {"^layers.0.self_attn.q_proj": 4},
        {r".*\.(q_proj|up_proj)": 4},
        {"layers.[01].mlp.up_?proj": 4},
        {"layers.1{2}.mlp.up_proj": 4, "layers.1+.mlp.up_proj": 6},
    ],
)
def test_patterns_mean_what_peft_makes_of_them(patterns: dict[str, int]) -> None:
    found = Patterns(patterns, "the file")
    for layer in LAYERS:
        expected = patterns.get(get_pattern_key(list(patterns), layer), 3)
        assert found.get(layer, 3) == expected


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|aa)*x", "(.*.*)*", r"(\w)\1", "(?=a)b", "a{2,}{3}", ".*" * 4, ".?" * 30 + "x",
     "(.|.)" * 30 + "x", "x" * 1000, "(?P<a>b)", "(?i)a"],
)  # fmt: skip
def test_expressions_that_could_take_forever_are_refused_at_once(pattern: str) -> None:
    started = time.perf_counter()
    with pytest.raises(AdapterError, match="could take forever"):
        Patterns({pattern: 3}, "rank_pattern")
    assert time.perf_counter() - started < 1


def test_many_expressions_together_are_bounded() -> None:
    patterns = {f".*.*.*x{i}": 3 for i in range(50)}
    with pytest.raises(AdapterError, match="more expressions than can be tried"):
        Patterns(patterns, "rank_pattern")
    named = {f"layers.{i}.mlp.up_proj": i + 1 for i in range(400)}
    assert Patterns(named, "rank_pattern").get("layers.399.mlp.up_proj", 1) == 400


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1], "is no object"),
        ({"[": 3}, "no valid one"),
        ({"a": 0}, "no number above 0"),
        ({"a": True}, "no number above 0"),
        ({"a": "3"}, "no number above 0"),
        ({f"a{i}": 3 for i in range(5000)}, "more than a model has layers"),
    ],
)
def test_what_is_no_pattern_is_refused(values: Any, told: str) -> None:
    with pytest.raises(AdapterError, match=told):
        Patterns(values, "rank_pattern")
