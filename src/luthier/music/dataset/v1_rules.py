"""What ACE-Step v1's data loader does to a row, as far as something could get lost on the way.

The loader joins the tags in random order and cuts the prompt at 256 characters; blanks lyrics of
a certain pattern and cuts them at 4096 tokens; raises on a lyric language that its tokenizer lacks
and then takes another track instead; and cuts audio at 240 seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from luthier.music.dataset.captions import MAX_CAPTION, SEPARATOR

_OF_V1 = "en de fr es it pt pl tr ru cs nl ar zh ja hu ko hi"  # those of its tokenizer
_OF_1_5 = (
    "ar az bg bn ca cs da de el en es fa fi fr he hi hr ht hu id is it ja ko la lt ms ne nl no pa "
    "pl pt ro ru sa sk sr sv sw ta te th tl tr uk ur vi yue zh unknown"
)
V1_LANGUAGES = frozenset(_OF_V1.split())
LANGUAGES = frozenset(_OF_1_5.split())
_MAX_LYRICS = 4096  # tokens; one is a letter or more
_MAX_SECONDS = 240.0
_BLANKED = re.compile(r"write a .* song that genre is", re.IGNORECASE)


def tag_problems(tags: list[str]) -> list[str]:
    """What is wrong with tags, whatever reads them: what follows "the prompt"."""
    problems = []
    if not tags or not all(tag.strip() for tag in tags):
        problems.append(f'has an empty tag: tags are separated by "{SEPARATOR}".')
    if any("\n" in tag for tag in tags):
        problems.append("has more than one line.")
    length = len(SEPARATOR.join(tags))
    if length > MAX_CAPTION:
        problems.append(f"has {length} characters; loaders cut at {MAX_CAPTION}: shorten it.")
    return problems


def v1_losses(row: Mapping[str, Any]) -> list[str]:
    """What ACE-Step v1's loader would lose of a row that is otherwise sound, a sentence each."""
    losses = []
    if not row["instrumental"] and row["language"] not in V1_LANGUAGES:
        losses.append(
            f"ACE-Step v1 cannot sing in {row['language']!r} and would train on another track "
            "instead; ACE-Step 1.5 can."
        )
    if _BLANKED.search(row["norm_lyrics"]):
        losses.append('ACE-Step v1 blanks lyrics that say "write a ... song that genre is".')
    if len(row["norm_lyrics"]) > _MAX_LYRICS:
        losses.append(f"ACE-Step v1 may cut the lyrics, at {_MAX_LYRICS} tokens.")
    if row["duration"] > _MAX_SECONDS:
        losses.append(f"ACE-Step v1 cuts the track at {_MAX_SECONDS:g} s.")
    if row["speaker_emb_path"]:
        losses.append("ACE-Step v1 raises on a speaker_emb_path that is not empty.")
    return losses
