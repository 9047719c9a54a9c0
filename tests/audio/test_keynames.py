from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.audio.keynames import ALL_KEYS, Key, parse_key
from luthier.errors import RequestError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Am", "A minor"),
        ("A minor", "A minor"),
        ("a min", "A minor"),
        ("F# Major", "F# major"),
        ("Gb major", "F# major"),
        ("Bb", "Bb major"),
        ("B♭ minor", "Bb minor"),
        ("C#m", "C# minor"),
        ("Db", "Db major"),
        ("E flat maj", "Eb major"),
        ("CM", "C major"),
        (" g-moll ", "G minor"),
        ("Cb", "B major"),
        ("b", "B major"),
        ("bbm", "Bb minor"),
    ],
)
def test_spellings(text, name):
    assert parse_key(text).name == name


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("H moll", "B minor"),
        ("A mineur", "A minor"),
        ("A dorian", "A major"),
        ("", "C major"),
        ("K", "C major"),
        ("A minor 7", "A minor"),
        ("7", "C major"),
    ],
)
def test_anything_else_names_the_nearest(text, nearest):
    with pytest.raises(RequestError, match=f"nearest to yours is .*{nearest}") as caught:
        parse_key(text)
    assert caught.value.exit_code == 2


@given(st.text(max_size=12))
def test_any_text_is_a_key_or_a_sentence(text):
    try:
        key = parse_key(text)
    except RequestError as error:
        message = str(error)
    else:
        message = "is not a key" if key in ALL_KEYS else "outside"
    assert "is not a key" in message


def test_names_read_back():
    assert len({key.name for key in ALL_KEYS}) == 24
    for key in ALL_KEYS:
        assert parse_key(key.name) == key
        assert key.relative.relative == key


def test_relatives():
    assert Key(0, "major").relative.name == "A minor"
    assert Key(9, "minor").relative.name == "C major"
    assert Key(9, "minor", 0.3).same_as(Key(9, "minor"))
