"""What mini learns from: tracks that add up to their song, and for each task what playing shows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes.mini.compose import compose
from recipes.mini.corpus import VIEWS, Corpus, layer_labels, load_corpus, views_of
from recipes.mini.layers import Part, drawn_pair, layer_caption, parts_of, summed, track_of
from recipes.mini.sampler import TASKS, Sampler, row_of
from recipes.mini.styles import STYLES

from luthier.music.templates import TRACK_NAMES, instruction_for
from tiny import tiny_model

FRAMES, CHANNELS = 600, 8


def stems_of(seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        stem.role: 3 * draw.standard_normal((2, 900), dtype=np.float32)
        for stem in compose(seed).stems
    }


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_tracks_have_ace_steps_names_and_add_up(seed: int) -> None:
    score, stems = compose(seed), stems_of(seed)
    parts = parts_of(score, stems, 800, seed)
    names = [part.track for part in parts]
    assert set(names) <= set(TRACK_NAMES)
    assert len(set(names)) == len(names) >= 3
    assert {name for part in parts for name in part.instruments} == set(score.instruments)
    whole = np.sum(list(stems.values()), axis=0)
    gain = float(summed(parts)[0, 0] / whole[0, 0])
    np.testing.assert_allclose(summed(parts), gain * whole[:, :800], rtol=1e-3, atol=1e-4)
    assert 0.7 <= gain * np.abs(whole).max() <= 1.001


def test_every_instrument_belongs_to_a_track() -> None:
    played = {
        track_of(stem) for seed in range(200) for stem in compose(seed, styles=tuple(STYLES)).stems
    }
    assert {"drums", "bass", "keyboard", "guitar", "strings", "woodwinds"} <= played
    assert played <= set(TRACK_NAMES)


def test_a_clip_is_seen_whole_in_two_tracks_and_without_each() -> None:
    sounds = {"a": 1, "b": 2, "c": 4}
    parts = [Part(n, (n,), np.full((2, 4), v, np.float32)) for n, v in sounds.items()]
    values = [float(view[0, 0]) for view in views_of(parts, (2, 0))]
    assert values == [7, 4, 1, 3, 6]
    labels = layer_labels(parts, (2, 0))
    assert labels["tracks"] == ["a", "b", "c"]
    assert [layer["track"] for layer in labels["layers"]] == ["c", "a"]


def clip_labels(seed: int = 1) -> dict[str, Any]:
    score = compose(seed)
    parts = parts_of(score, stems_of(seed), 800, seed)
    pair = drawn_pair(parts, random.Random(seed))
    row = {
        "bpm": score.bpm, "keyscale": score.key, "timesignature": score.metre,
        "style": score.style, "mood": score.mood, "captions": ["one", "two", "three"],
    }  # fmt: skip
    return row | layer_labels(parts, pair)


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_target_and_its_source(task: str) -> None:
    views = torch.arange(len(VIEWS)).float()[:, None, None].expand(-1, 6, 2)
    labels = clip_labels()
    first, second = (layer["track"] for layer in labels["layers"])
    seen = set()
    for seed in range(60):
        row = row_of(task, views, labels, random.Random(seed))
        source = None if row.source is None else VIEWS[int(row.source[0, 0])]
        seen.add((VIEWS[int(row.target[0, 0])], source, row.tracks))
    others = [tuple(t for t in labels["tracks"] if t != name) for name in (first, second)]
    assert (
        seen
        == {
            "text2music": {("mix", None, ())},
            "cover": {("mix", None, ())},
            "repaint": {("mix", "mix", ())},
            "extract": {("first", "mix", (first,)), ("second", "mix", (second,))},
            "lego": {
                ("first", "without first", (first,)),
                ("first", "second", (first,)),
                ("second", "without second", (second,)),
                ("second", "first", (second,)),
            },
            "complete": {
                ("mix", "without first", (first,)),
                ("mix", "without second", (second,)),
                ("mix", "first", others[0]),
                ("mix", "second", others[1]),
            },
        }[task]
    )


def test_a_layer_is_asked_for_in_three_ways() -> None:
    rng = random.Random(0)
    asked = {layer_caption(["all of it"], "pop", "bright", ["piano"], rng) for _ in range(200)}
    assert {"", "all of it", "piano", "bright pop, piano"} <= asked
    assert all(words in ("", "all of it") or "piano" in words for words in asked)


def noisy_corpus() -> Corpus:
    draw = np.random.default_rng(0)
    shape = (4, len(VIEWS), FRAMES, CHANNELS)
    latents = draw.standard_normal(shape).astype(np.float16)
    return Corpus([latents], [(0, i) for i in range(4)], [clip_labels(i) for i in range(4)])


def test_a_batch_shows_what_playing_would() -> None:
    model, seen = tiny_model(), set()
    sampler = Sampler(model, noisy_corpus(), all_tasks_from=0)
    with torch.no_grad():
        for seed in range(6):
            batch, prompts = sampler.batch(random.Random(seed), 16, step=0)
            source, mask = batch.context.chunk(2, dim=-1)
            silence = model.silence[0, : source.shape[1]]
            for i, prompt in enumerate(prompts):
                inside = mask[i] > 0
                assert torch.equal(mask[i], inside.float())
                # What is not to be made is what is there already.
                assert torch.equal(batch.music[i][~inside], source[i][~inside])
                if instruction_for("text2music") in prompt:
                    seen.add("text2music")
                    assert torch.equal(source[i], silence)
                elif instruction_for("repaint") in prompt:
                    seen.add("repaint")
                    assert torch.equal(source[i][inside], silence[inside])
                elif "track based on the audio context:" in prompt:
                    seen.add("lego in a window" if not inside.all() else "lego")
                    assert not torch.equal(source[i][inside], batch.music[i][inside])
                    assert not torch.equal(source[i][inside], silence[inside])
    assert seen == {"text2music", "repaint", "lego", "lego in a window"}


def test_from_nothing_it_begins_without_sources() -> None:
    sampler = Sampler(tiny_model(), noisy_corpus())
    with torch.no_grad():
        for seed in range(4):
            _, prompts = sampler.batch(random.Random(seed), 16, step=0)
            early = (instruction_for("text2music"), instruction_for("repaint"))
            assert all(any(words in prompt for words in early) for prompt in prompts)


def test_shards_are_found_again(tmp_path: Path) -> None:
    for index, value in enumerate((1.0, 2.0)):
        latents = np.full((2, len(VIEWS), 3, 2), value, np.float16)
        np.save(tmp_path / f"latents-{index:03d}.npy", latents)
        (tmp_path / f"labels-{index:03d}.json").write_text('[{"seed": 0}, {"seed": 1}]')
    corpus = load_corpus(tmp_path)
    assert len(corpus) == 4
    assert corpus.channels == 2
    assert [float(corpus.clip(i)[0, 0, 0]) for i in range(4)] == [1, 1, 2, 2]
    assert corpus.mixes(3).shape == (3, 3, 2)
