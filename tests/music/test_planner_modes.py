"""The planner with a tiny random language model: real graphs, real tokenizer, every mode."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import Qwen3ForCausalLM

from luthier.errors import ModelError, RequestError
from luthier.music.mini import onnx_folder
from luthier.music.planner.decoding import Text, write
from luthier.music.planner.facts import KEYS, LANGUAGES, TIME_SIGNATURES
from luthier.music.planner.fields import Grammars
from luthier.music.planner.grammar import Codes, Grammar
from luthier.music.planner.planner import Planner
from luthier.music.planner.request import PlanRequest, plan_request_from
from luthier.music.planner.sampling import Sampling
from tiny_lm import CODES, tiny_lm_onnx, tiny_lm_torch

SAID: dict[str, Any] = {"bpm": 90, "key": "Am", "time_signature": "3/4", "duration_s": 10}


@pytest.fixture(scope="module")
def planner() -> Planner:
    made = Planner(tiny_lm_onnx(), threads=1)
    made._grammars = Grammars(made.vocabulary, caption_tokens=20, lyrics_tokens=30)
    return made


def test_facts_and_codes_are_planned(planner: Planner) -> None:
    (plan,) = planner.plan(PlanRequest(prompt="calm piano", duration_s=12.5, seed=1))
    assert plan.facts.duration == 12
    assert len(plan.codes) == 62  # five a second of 12.5
    assert max(plan.codes) < CODES
    assert plan.facts.bpm in range(30, 301)
    assert plan.facts.keyscale in KEYS
    assert plan.facts.language in LANGUAGES
    assert plan.facts.timesignature in TIME_SIGNATURES


def test_the_duration_that_the_planner_chose_counts_its_codes(planner: Planner) -> None:
    short = {"bpm": 90, "key": "Am", "time_signature": "4"}
    (plan,) = planner.plan(PlanRequest(prompt="x", codes=False, seed=0, **short))
    assert plan.facts.duration in range(10, 601)
    assert plan.codes == ()


def test_what_the_user_said_wins(planner: Planner) -> None:
    (plan,) = planner.plan(PlanRequest(prompt="x", language="yue", codes=False, seed=0, **SAID))
    facts = plan.facts
    assert (facts.bpm, facts.keyscale, facts.timesignature) == (90, "A minor", "3")
    assert (facts.duration, facts.language) == (10, "yue")


def test_facts_are_not_asked_for_when_the_main_ones_are_given(planner: Planner) -> None:
    (plan,) = planner.plan(PlanRequest(prompt="x", codes=False, seed=0, **SAID))
    assert plan.text == ""
    assert plan.facts.caption is None


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_a_seed_gives_the_same_plan_alone_and_in_a_batch(
    planner: Planner, cfg_scale: float
) -> None:
    request = PlanRequest(prompt="calm piano", seed=5, batch_size=3, cfg_scale=cfg_scale, **SAID)
    together = planner.plan(request)
    alone = [
        planner.plan(request.model_copy(update={"seed": seed, "batch_size": 1}))[0]
        for seed in (5, 6, 7)
    ]
    assert together == alone
    assert len({plan.codes for plan in together}) == 3


def test_plans_of_a_batch_may_differ_in_length(planner: Planner) -> None:
    texts = [
        Text([1, 2, 3], Grammar([Codes(planner.vocabulary, count)]), np.random.default_rng(count))
        for count in (3, 9)
    ]
    short, long = write(planner.lm, texts, Sampling(), 9, codes_only=True)
    assert (len(short), len(long)) == (3, 9)


def test_inspiration_gives_facts_and_lyrics(planner: Planner) -> None:
    (plan,) = planner.plan(PlanRequest(prompt="rain", mode="inspire", seed=3))
    assert plan.facts.caption
    assert plan.lyrics
    assert plan.codes == ()
    assert plan.text.startswith("<think>\nbpm: ")


def test_formatting_keeps_what_was_said(planner: Planner) -> None:
    (plan,) = planner.plan(PlanRequest(prompt="rain", mode="format", bpm=123, seed=0))
    assert plan.facts.bpm == 123
    assert "\nduration: " in plan.text


def test_codes_are_understood(planner: Planner) -> None:
    (plan,) = planner.plan(PlanRequest(mode="understand", audio_codes=(1, 2, 39), seed=0))
    assert plan.facts.bpm in range(30, 301)
    with pytest.raises(RequestError, match="the audio code 40 does not exist"):
        planner.plan(PlanRequest(mode="understand", audio_codes=(40,)))


def test_a_plan_is_printed_as_yaml_and_json(planner: Planner) -> None:
    (plan,) = planner.plan(PlanRequest(prompt="x", seed=0, **SAID))
    value = yaml.safe_load(plan.as_yaml())
    assert value["bpm"] == 90
    assert value["codes"] == list(plan.codes)
    assert json.loads(json.dumps(plan.as_dict()))["keyscale"] == "A minor"


@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_greedy_codes_are_those_of_transformers(planner: Planner, penalty: float) -> None:
    reference = Qwen3ForCausalLM.from_pretrained(tiny_lm_torch()).eval()
    prompt = planner.vocabulary.encode("# Caption\ncalm piano\n")
    first = planner.vocabulary.first_code
    banned = [[token] for token in range(first)]
    with torch.no_grad():
        made = reference.generate(
            torch.tensor([prompt]),
            max_new_tokens=24,
            min_new_tokens=24,
            do_sample=False,
            bad_words_ids=banned,
            repetition_penalty=penalty,
            pad_token_id=0,
        )[0, len(prompt) :]
    rule = Sampling(temperature=0.0, repetition_penalty=penalty)
    grammar = planner._grammars.codes(24)
    text = Text(prompt, grammar, np.random.default_rng(0))
    assert write(planner.lm, [text], rule, 24, codes_only=True) == [made.tolist()]


def test_guidance_changes_the_plan(planner: Planner) -> None:
    request = PlanRequest(prompt="calm piano", seed=0, temperature=0.0, **SAID)
    plans = [
        planner.plan(request.model_copy(update={"cfg_scale": scale}))[0] for scale in (1.0, 4.0)
    ]
    assert plans[0].codes != plans[1].codes


def test_what_the_planner_cannot_see_is_refused(planner: Planner) -> None:
    request = PlanRequest(prompt="x", lyrics="la la la " * 2000, seed=0, **SAID)
    with pytest.raises(ModelError, match="shorten the lyrics or the duration"):
        planner.plan(request)


def test_mini_has_no_planner() -> None:
    with pytest.raises(ModelError, match=r"has no planner.*acestep-5Hz-lm-0\.6B"):
        Planner(onnx_folder())
    with pytest.raises(RequestError, match=r"'4B' is not in .*: choose 0\.6B"):
        Planner(tiny_lm_onnx(), "4B")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"bpm": 10}, "bpm is 10"),
        ({"key": "H moll"}, "is not a key"),
        ({"language": "klingon"}, "the planner knows ar, az"),
        ({"mode": "understand"}, "Audio codes belong to the mode understand"),
        ({"audio_codes": "1,2"}, "Audio codes belong to the mode understand"),
        ({"duration_s": 601}, "duration_s is 601"),
        ({"mode": "dream"}, "mode is 'dream'"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_wrong_request_is_told_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        plan_request_from(values)


def test_codes_are_read_as_the_model_writes_them() -> None:
    text = "<|audio_code_3|><|audio_code_17|>"
    request = plan_request_from({"mode": "understand", "audio_codes": text})
    assert request.audio_codes == (3, 17)


def test_facts_that_no_seed_changes(planner: Planner) -> None:
    request = PlanRequest(prompt="x", codes=False, seed=0, temperature=0.0)
    one, other = (planner.plan(request.model_copy(update={"seed": s}))[0] for s in (1, 2))
    assert replace(one, seed=2) == other
