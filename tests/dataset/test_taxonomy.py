from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from luthier.music.dataset.styles import load_presets, load_taxonomy
from luthier.music.dataset.taxonomy import TAG_ORDER, TagCategory, Taxonomy, tidy

TAXONOMY = load_taxonomy()


def test_the_categories_stand_in_the_order_of_a_prompt():
    assert TAG_ORDER == (
        "genre",
        "mood",
        "instruments",
        "tempo",
        "production",
        "atmosphere",
        "vocal_type",
    )
    assert all(TAXONOMY.tags(name) for name in TAG_ORDER)


@pytest.mark.parametrize(
    ("text", "tag", "category"),
    [
        ("Lo-Fi Hip Hop", "lofi hip hop", "genre"),
        ("rhodes  piano", "rhodes", "instruments"),
        ("cosy", "cozy", "mood"),
        ("vinyl crackle", "vinyl crackle", "instruments"),  # it is of production, too
        ("82 BPM", "82 bpm", "tempo"),
        ("Bbm minor", "bbm minor", "tempo"),
        ("f# MINOR", "F# minor", "tempo"),
        ("birds", "birdsong", "atmosphere"),
        ("no vocals", "instrumental", "vocal_type"),
        ("polka", "polka", None),
    ],
)
def test_the_canonical_form_and_its_category(text, tag, category):
    assert TAXONOMY.canonical(text) == tag
    if tag != "bbm minor":
        assert TAXONOMY.category_of(tag) == category


def test_a_tag_may_be_of_two_categories():
    assert TAXONOMY.holds("instruments", "vinyl crackle")
    assert TAXONOMY.holds("production", "vinyl crackle")
    assert not TAXONOMY.holds("genre", "vinyl crackle")


def test_the_nearest_tag():
    assert TAXONOMY.nearest("saxofone") == "saxophone"
    assert TAXONOMY.nearest("rodes piano") == "rhodes"  # nearest to an alias, so its tag
    assert TAXONOMY.nearest("rain", ["atmosphere"]) == "rainy"
    assert Taxonomy([]).nearest("x") == ""


@given(st.text(max_size=30))
def test_a_canonical_form_is_its_own(text):
    once = TAXONOMY.canonical(text)
    assert TAXONOMY.canonical(once) == once
    assert tidy(tidy(text)) == tidy(text)


def test_every_tag_of_every_preset_is_canonical_and_known():
    from luthier.music.dataset.style_preset import TAG_FIELDS

    for preset in load_presets().values():
        for field, category in TAG_FIELDS.items():
            for tag in getattr(preset, field):
                assert tag == TAXONOMY.canonical(tag), (preset.style_id, tag)
                assert TAXONOMY.holds(category, tag), (preset.style_id, tag)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"category": "genres", "tags": []}, "Input should be 'genre'"),
        ({"category": "mood", "tags": ["Chill"]}, "canonical form of 'Chill' is 'chill'"),
        ({"category": "mood", "tags": ["a, b"]}, "without commas"),
        ({"category": "mood", "tags": ["a", "a"]}, "a is there twice"),
        ({"category": "mood", "tags": ["a" * 65]}, "at most 64 characters, not 65"),
        (
            {"category": "mood", "tags": ["a"], "canonical_forms": {"b": "c"}},
            "'b' stands for 'c', which is no tag",
        ),
        (
            {"category": "mood", "tags": ["a"], "canonical_forms": {"a": "a"}},
            "'a' is a tag itself",
        ),
        (
            {"category": "mood", "tags": ["a"], "canonical_forms": {"B ": "a"}},
            "'B ' is looked up as 'b'",
        ),
    ],
)
def test_a_category_that_contradicts_itself_is_refused(row, message):
    with pytest.raises(ValidationError, match=message):
        TagCategory.model_validate(row)
