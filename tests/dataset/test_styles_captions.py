from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.dataset.captions import build_caption, fit_octave, is_instrumental
from luthier.dataset.styles import find, load_presets
from luthier.errors import DatasetError, PathError

PRESETS = load_presets()


def test_the_38_styles():
    counts: dict[str, int] = {}
    for preset in PRESETS.values():
        counts[preset.category] = counts.get(preset.category, 0) + 1
    assert counts == {"core": 7, "seasonal": 9, "thematic": 10, "instrumental": 7, "vocal": 5}
    assert PRESETS["CORE-04"].tempo_range == (110, 120)
    assert PRESETS["VOCAL-05"].name == "Humming/Wordless"


@pytest.mark.parametrize("style", sorted(PRESETS))
def test_every_style_has_a_caption_that_loaders_keep_whole(style):
    preset = PRESETS[style]
    assert preset.base_tags
    assert len(preset.mood_options) >= 3
    assert "lo-fi production" in preset.production  # from the parent
    caption = build_caption(preset, 82, "A minor", seed=1)
    assert len(caption) <= 256
    assert len(set(caption.split(", "))) == len(caption.split(", "))
    assert caption.startswith(preset.base_tags[0])


def test_tags_stand_in_the_order_of_the_categories():
    caption = build_caption(PRESETS["CORE-02"], 81.6, "Bbm", seed=3)
    tags = caption.split(", ")
    order = ["jazz lofi", "piano", "82 bpm", "Bb minor", "vinyl crackle", "coffee shop"]
    assert [tag for tag in tags if tag in order] == order
    assert tags[-1] == "instrumental"
    assert sum(tag in PRESETS["CORE-02"].mood_options for tag in tags) == 2


def test_without_measures_the_style_tells_the_tempo():
    assert "very slow tempo" in build_caption(PRESETS["THEME-04"])
    assert "upbeat tempo" in build_caption(PRESETS["CORE-04"])
    assert "bpm" not in build_caption(PRESETS["CORE-01"])


def test_the_seed_chooses_the_moods():
    captions = {build_caption(PRESETS["CORE-01"], 80, None, seed=s) for s in range(20)}
    assert len(captions) == 3  # two moods of three
    assert build_caption(PRESETS["CORE-01"], 80, None, "7/x") == build_caption(
        PRESETS["CORE-01"], 80, None, "7/x"
    )


@given(st.lists(st.sampled_from(sorted(PRESETS)), min_size=1, max_size=8), st.integers())
def test_any_mixture_is_short_and_without_repetition(styles, seed):
    caption = build_caption([PRESETS[s] for s in styles], 90, "C", seed)
    tags = caption.split(", ")
    assert 0 < len(caption) <= 256
    assert len({tag.lower() for tag in tags}) == len(tags)
    assert PRESETS[styles[0]].base_tags[0] == tags[0]


def test_a_voice_outweighs_instrumental():
    both = [PRESETS["CORE-01"], PRESETS["VOCAL-01"]]
    assert "instrumental" not in build_caption(both).split(", ")
    assert not is_instrumental(both)
    assert is_instrumental([PRESETS["CORE-01"]])


def test_the_octave_of_the_style():
    assert fit_octave(164, [PRESETS["CORE-01"]]) == 82
    assert fit_octave(41, [PRESETS["CORE-01"]]) == 82
    assert fit_octave(82, [PRESETS["CORE-01"]]) == 82
    assert fit_octave(120, [PRESETS["CORE-01"]]) == 120  # neither fits: left as measured


def test_an_unknown_style_names_the_nearest():
    with pytest.raises(DatasetError, match="no style 'core-1'; the nearest is 'CORE-01'"):
        find("core-1", PRESETS)


def preset(**changes):
    row = {
        "style_id": "X-01",
        "name": "x",
        "category": "core",
        "base_tags": ["x"],
        "instruments": ["piano"],
        "production": [],
        "mood_options": ["calm"],
        "tempo_range": [70, 80],
    }
    return row | changes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([preset(tempo_range=[90, 80])], "preset 1 X-01: tempo_range"),
        ([preset(category="jazz")], "category"),
        ([preset(moods=[])], "moods"),
        ([preset(base_tags=["a, b"])], "without commas"),
        ([preset(), preset()], "twice"),
        ([preset(extends="_none")], "no style '_none'"),
        ([preset(extends="X-01")], "circle"),
        ([], "no presets"),
        ([5], "preset 1"),
    ],
)
def test_a_wrong_preset_file_is_said(tmp_path, rows, message):
    path = tmp_path / "presets.json"
    path.write_text(json.dumps({"presets": rows}))
    with pytest.raises(DatasetError, match=message):
        load_presets(path)


def test_inheritance_and_own_presets(tmp_path):
    path = tmp_path / "presets.json"
    parent = preset(style_id="_base", production=["tape hiss"], atmosphere="late night")
    path.write_text(json.dumps([parent, preset(extends="_base", production=["reverb"])]))
    found = load_presets(path)
    assert list(found) == ["X-01"]
    assert found["X-01"].production == ("reverb", "tape hiss")
    assert found["X-01"].atmosphere == ("late night",)
    with pytest.raises(PathError, match="does not exist"):
        load_presets(tmp_path / "none.json")
