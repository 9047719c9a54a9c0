from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import DatasetError, PathError
from luthier.music.dataset import styles
from luthier.music.dataset.captions import (
    MAX_CAPTION,
    Tag,
    arrange,
    build_caption,
    fit,
    fit_octave,
    gather,
    is_instrumental,
    join,
)
from luthier.music.dataset.styles import find, load_presets, load_taxonomy, nearest_style
from luthier.music.dataset.taxonomy import TAG_ORDER

PRESETS = load_presets()
ROOT = Path(__file__).parents[2]


def test_the_38_styles():
    counts: dict[str, int] = {}
    for preset in PRESETS.values():
        counts[preset.category] = counts.get(preset.category, 0) + 1
    assert counts == {"core": 7, "seasonal": 9, "thematic": 10, "instrumental": 7, "vocal": 5}
    assert PRESETS["CORE-04"].tempo_range == (110, 120)
    assert PRESETS["VOCAL-05"].name == "Humming/Wordless"


@pytest.mark.parametrize("style", sorted(PRESETS))
def test_every_style_is_complete_and_its_caption_is_kept_whole(style):
    preset = PRESETS[style]
    assert len(preset.mood_options) >= 4
    assert len(preset.instruments) >= 3
    assert len(preset.production) >= 2
    assert preset.base_tags
    assert preset.atmosphere
    assert preset.vocal_type
    assert "lo-fi production" in preset.production  # from the parent of all
    assert is_instrumental([preset]) == (preset.category != "vocal")
    tags = gather(preset, 82, "A minor", seed=1)
    assert fit(tags) == tags  # nothing has to go
    assert join(tags).startswith(preset.base_tags[0])


def test_no_two_styles_are_alike():
    tags = {
        style: {tag.text for tag in gather(preset, 80) if tag.category != "mood"}
        for style, preset in PRESETS.items()
    }
    for one, mine in tags.items():
        for other, theirs in tags.items():
            assert one == other or len(mine - theirs) >= 2, (one, other)


def test_tags_stand_in_the_order_of_the_categories():
    caption = build_caption(PRESETS["CORE-02"], 81.6, "Bbm", seed=3)
    tags = caption.split(", ")
    order = ["jazz lofi", "piano", "82 bpm", "Bb minor", "vinyl crackle", "coffee shop"]
    assert [tag for tag in tags if tag in order] == order
    assert tags[-1] == "instrumental"
    assert sum(tag in PRESETS["CORE-02"].mood_options for tag in tags) == 2


def test_measured_music_goes_before_what_the_style_says():
    dark = PRESETS["CORE-06"]
    assert "minor key" in build_caption(dark)
    assert "slow tempo" in build_caption(dark)
    measured = build_caption(dark, 131, "C major").split(", ")
    assert "131 bpm" in measured
    assert "C major" in measured
    assert not {"minor key", "slow tempo"} & set(measured)


def test_without_measures_the_style_tells_the_tempo():
    assert "very slow tempo" in build_caption(PRESETS["THEME-04"])
    assert "upbeat tempo" in build_caption(PRESETS["CORE-04"])
    assert "bpm" not in build_caption(PRESETS["CORE-01"])


def test_the_seed_chooses_the_moods():
    captions = {build_caption(PRESETS["CORE-01"], 80, None, seed=s) for s in range(60)}
    assert len(captions) == 6  # two moods of four
    assert build_caption(PRESETS["CORE-01"], 80, None, "7/x") == build_caption(
        PRESETS["CORE-01"], 80, None, "7/x"
    )


def test_a_caption_does_not_change_from_run_to_run():
    assert build_caption(PRESETS["SEASON-06"], 70, "D minor", "42/rain") == (
        "lofi hip hop, introspective, calm, piano, soft drums, drum machine, bass guitar, 70 bpm, "
        "D minor, tape hiss, low-pass filter, vinyl crackle, lo-fi production, rainy, "
        "rain ambience, instrumental"
    )


mixtures = st.lists(st.sampled_from(sorted(PRESETS)), min_size=1, max_size=8, unique=True)


@given(mixtures, st.integers(), st.none() | st.floats(20, 300), st.sampled_from([None, "C", "Bbm"]))
@settings(max_examples=60, deadline=None)
def test_any_mixture_is_short_ordered_and_without_repetition(names, seed, bpm, key):
    chosen = [PRESETS[name] for name in names]
    caption = build_caption(chosen, bpm, key, seed)
    texts = caption.split(", ")
    assert 0 < len(caption) <= MAX_CAPTION
    assert len({text.lower() for text in texts}) == len(texts)
    assert chosen[0].base_tags[0] == texts[0]
    everything = gather(chosen, bpm, key, seed)
    kept = fit(everything)
    assert [tag for tag in everything if tag in kept] == list(kept)  # the order stays
    places = [TAG_ORDER.index(tag.category) for tag in kept]
    assert places == sorted(places)
    # Tempo and key are never what goes, and every style leaves a trace.
    assert {tag for tag in everything if tag.category == "tempo"} <= set(kept)
    assert caption == build_caption(chosen, bpm, key, seed)


_tags = st.builds(
    Tag,
    st.text("abc ", min_size=1, max_size=64).filter(str.strip),
    st.sampled_from(TAG_ORDER),
    st.integers(-1, 9),
)


@given(st.lists(_tags, min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_full_caption_has_no_room_for_what_was_left_out(tags):
    tags = arrange(tags)
    kept = fit(tags)
    assert tags[0] in kept
    assert len(join(kept)) <= MAX_CAPTION
    for tag in set(tags) - set(kept):
        assert len(join([*kept, tag])) > MAX_CAPTION
    assert arrange(tags) == tags


def test_each_style_of_a_mixture_gets_its_word_in():
    names = ["CORE-01", "SEASON-02", "THEME-07", "INST-05"]
    caption = build_caption([PRESETS[name] for name in names], 80, "C", 1)
    for name in names:
        own = set(PRESETS[name].base_tags) | {PRESETS[name].instruments[0]}
        assert own & set(caption.split(", ")), name


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
    assert nearest_style("Jazz Lo-fi", PRESETS) == "CORE-02"  # by its name


def preset(**changes):
    row = {
        "style_id": "X-01",
        "name": "x",
        "category": "core",
        "base_tags": ["chillhop"],
        "instruments": ["piano"],
        "production": ["tape hiss"],
        "mood_options": ["calm"],
        "tempo_range": [70, 80],
    }
    return row | changes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([preset(tempo_range=[90, 80])], r"f\.json:18:18: tempo_range: \[lowest, highest\]"),
        ([preset(tempo_range=[9, 80])], r"f\.json:19:4: tempo_range\.0 is 9, but .* 20"),
        ([preset(category="themetic")], r"f\.json:5:15: category is .*'thematic'"),
        ([preset(moods=[])], r"f\.json:22:3: there is no field 'moods'; the nearest is 'mood_op"),
        ([preset(base_tags=["a, b"])], r"f\.json:7:4: base_tags\.0: .* without commas"),
        ([preset(), preset()], r"f\.json:24:15: X-01 is there twice"),
        ([preset(extends="_none")], r"f\.json:22:14: there is no style '_none' to extend"),
        ([preset(extends="X-01")], r"circle: X-01 -> X-01"),
        (
            [preset(extends="X-02"), preset(style_id="X-02", extends=["X-01"])],
            "circle: X-01 -> X-02 -> X-01",
        ),
        ([preset(instruments=["pianoo"])], r"'pianoo' is no tag of instruments; the neare"),
        ([preset(instruments=[])], r"f\.json:9:18: X-01 has no instruments, nor has a parent"),
        ([], "no presets are here"),
        ([5], r"f\.json:2:2: this is 5, but"),
        ([{"style_id": "X-01"}], r"f\.json:2:2: the field 'name' is missing"),
    ],
)
def test_a_wrong_preset_file_is_said_by_line(tmp_path, rows, message):
    path = tmp_path / "f.json"
    path.write_text(json.dumps(rows, indent=1))
    with pytest.raises(DatasetError, match=message):
        load_presets(path)


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    path = tmp_path / "presets.json"
    path.write_text(json.dumps([preset(name=3), preset(style_id="x", category="jazz")], indent=1))
    with pytest.raises(DatasetError, match="3 things are wrong") as caught:
        load_presets(path)
    assert str(caught.value).count("presets.json:") == 3


def test_inheritance_and_own_presets(tmp_path):
    path = tmp_path / "presets.json"
    base = preset(style_id="_base", production=["tape saturation"], atmosphere="late night")
    other = preset(style_id="_other", instruments=["Rhodes Piano"], mood_options=[])
    child = preset(extends=["_base", "_other"], production=["soft reverb"])
    path.write_text(json.dumps([base, other, child]))
    found = load_presets(path)
    assert list(found) == ["X-01"]
    assert found["X-01"].production == ("soft reverb", "tape saturation", "tape hiss")
    assert found["X-01"].instruments == ("piano", "rhodes")  # canonical, once
    assert found["X-01"].atmosphere == ("late night",)
    with pytest.raises(PathError, match="does not exist"):
        load_presets(tmp_path / "none.json")


def test_own_tags_are_documented_in_the_file(tmp_path):
    path = tmp_path / "presets.json"
    own = {"category": "genre", "tags": ["polka"], "canonical_forms": {"humppa": "polka"}}
    document = {"taxonomy": [own], "presets": [preset(base_tags=["Humppa"])]}
    path.write_text(json.dumps(document))
    assert load_presets(path)["X-01"].base_tags == ("polka",)
    assert load_taxonomy(path).category_of("polka") == "genre"
    assert load_taxonomy(path).category_of("piano") == "instruments"  # luthier's own stay
    document["taxonomy"] = [own | {"category": "genr"}]
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"presets\.json:1:28: category is \"genr\".*'genre'"):
        load_presets(path)


def test_the_configuration_folder_is_the_package_s_own_file():
    # One file: a copy would drift.
    assert os.path.samefile(ROOT / "config" / "style_presets.json", styles.BUILT_IN)


def test_the_configuration_folder_can_be_another(tmp_path, monkeypatch):
    assert styles.presets_path() == styles.BUILT_IN
    monkeypatch.setenv("LOFI_CONFIG_DIR", str(tmp_path))
    assert len(load_presets()) == 38  # a folder without presets: luthier's own
    (tmp_path / "style_presets.json").write_text(json.dumps([preset()]))
    assert list(load_presets()) == ["X-01"]
    assert len(load_presets(styles.BUILT_IN)) == 38
