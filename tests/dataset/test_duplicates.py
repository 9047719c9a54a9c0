from __future__ import annotations

import base64

import numpy as np

from luthier.dataset.duplicates import SAME_TRACK, duplicate_notes, find_duplicates

FRAMES = 300  # 37 s


def text(words):
    return base64.b64encode(words.astype("<u4").tobytes()).decode()


def random_words(seed, frames=FRAMES):
    return np.random.default_rng(seed).integers(1, 2**32, frames, np.uint32)


def noisy(words, share, seed=99):
    """`words` with a share of the bits turned."""
    flips = np.random.default_rng(seed).random((len(words), 32)) < share
    return words ^ (flips @ (1 << np.arange(32, dtype=np.uint64))).astype(np.uint32)


def test_copies_are_grouped_around_the_first():
    track, other = random_words(1), random_words(2)
    groups = find_duplicates(
        {
            "best": text(track),
            "other": text(other),
            "nothing": None,
            "silent": "",
            "coded": text(noisy(track, 0.1)),
            "cut": text(track[40:]),
        }
    )
    assert len(groups) == 1
    assert groups[0].kept == "best"
    alike = dict(groups[0].others)
    assert set(alike) == {"coded", "cut"}
    assert alike["cut"] == 1
    assert 0.75 < alike["coded"] < 0.85
    assert groups[0].to_json()["others"][0] == {"source": "coded", "similarity": alike["coded"]}


def test_tracks_alike_by_a_third_one_only_are_no_group():
    middle = random_words(3)
    first, last = noisy(middle, 0.18, seed=1), noisy(middle, 0.18, seed=2)
    groups = find_duplicates({"first": text(first), "middle": text(middle), "last": text(last)})
    assert groups[0].kept == "first"
    assert [name for name, _ in groups[0].others] == ["middle"]
    assert len(groups) == 1


def test_a_hundred_tracks_with_three_copies():
    prints = {f"t{i}": text(random_words(i, 200 + i)) for i in range(100)}
    for i in (7, 50, 93):
        prints[f"copy{i}"] = text(noisy(random_words(i, 200 + i)[i:], 0.15))
    groups = find_duplicates(prints)
    assert {(g.kept, g.others[0][0]) for g in groups} == {
        ("t7", "copy7"),
        ("t50", "copy50"),
        ("t93", "copy93"),
    }
    assert all(alike >= SAME_TRACK for g in groups for _, alike in g.others)


def test_lengths_that_differ_much_and_none_at_all():
    track = random_words(5, 3000)
    assert find_duplicates({}) == []
    assert find_duplicates({"one": text(track)}) == []
    groups = find_duplicates({"whole": text(track), "part": text(track[1000:1100])})
    assert groups[0].others == (("part", 1.0),)


def test_notes_name_at_most_three():
    track = random_words(8)
    prints = {f"/in/{i}.wav": text(track) for i in range(6)}
    notes = duplicate_notes(find_duplicates(prints), {name: name[4:] for name in prints})
    assert notes["/in/0.wav"] == "the same recording as 1.wav, 2.wav, 3.wav and 2 more"
    assert notes["/in/4.wav"] == "the same recording as 0.wav (similarity 1.00)"
