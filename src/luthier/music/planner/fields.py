"""The grammar of the block of facts, with what the user gave written into it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import yaml  # type: ignore[import-untyped]

from luthier.music.planner.facts import (
    BPM,
    DURATION_S,
    KEYS,
    LANGUAGES,
    TIME_SIGNATURES,
    Facts,
)
from luthier.music.planner.grammar import (
    CAPTION_TOKENS,
    GENRES_TOKENS,
    LYRICS_TOKENS,
    Caption,
    Codes,
    Grammar,
    Line,
    Lyrics,
    Node,
    Part,
    Walk,
)
from luthier.music.planner.vocabulary import Vocabulary

# field: the name that its states have
_STATES = {
    "bpm": "BPM",
    "caption": "CAPTION",
    "duration": "DURATION",
    "genres": "GENRES",
    "keyscale": "KEYSCALE",
    "language": "LANGUAGE",
    "timesignature": "TIMESIG",
}
_VALUES: dict[str, Iterable[object]] = {
    "bpm": BPM,
    "duration": DURATION_S,
    "keyscale": KEYS,
    "language": LANGUAGES,
    "timesignature": TIME_SIGNATURES,
}


class Grammars:
    """Makes grammars for one vocabulary; the prefix trees are built once.

    Args:
        caption_tokens: the longest caption.
        lyrics_tokens: the longest lyrics.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        caption_tokens: int = CAPTION_TOKENS,
        lyrics_tokens: int = LYRICS_TOKENS,
    ) -> None:
        self.vocabulary = vocabulary
        self.caption_tokens, self.lyrics_tokens = caption_tokens, lyrics_tokens

    def facts(
        self,
        given: Facts,
        *,
        skip: frozenset[str] = frozenset(),
        genres: bool = False,
        lyrics: bool = False,
    ) -> Grammar:
        """Thoughts in `<think>`, and what may come after them.

        Args:
            given: stands there as it is.
            skip: fields that are left out.
            genres: they may be named too.
            lyrics: free text follows.
        """
        parts: list[Part] = [self._text("</think>", "THINK_END_TAG")]
        if lyrics:
            parts.append(Lyrics(self.vocabulary, self.lyrics_tokens))
        for field in reversed(_STATES):
            if field in skip and field not in given.given():
                continue
            if field == "genres" and given.genres is None:
                if genres:
                    parts = self._perhaps_genres(parts)
                continue
            parts = self._field(field, given, parts)
        return Grammar([self._text("<think>", "THINK_TAG"), self._text("\n", "NEWLINE"), *parts])

    def codes(self, count: int) -> Grammar:
        """So many audio codes."""
        return Grammar([Codes(self.vocabulary, count)])

    def _field(self, field: str, given: Facts, rest: list[Part]) -> list[Part]:
        name, value = self._text(f"{field}:", f"{_STATES[field]}_NAME"), given.given().get(field)
        state = f"{_STATES[field]}_VALUE"
        if value is not None:
            return [name, Walk(state, self._tree(field, [_written(field, value)])), *rest]
        if field == "caption":
            follow = rest[0]
            assert isinstance(follow, Walk)  # a field's name or the end tag
            return [name, Caption(self.vocabulary, follow, self.caption_tokens), *rest[1:]]
        # Taken greedily: the language decides the whole of the lyrics.
        return [name, Walk(state, self._trees[field], greedy=field == "language"), *rest]

    def _perhaps_genres(self, rest: list[Part]) -> list[Part]:
        """Either the genres come next, or what would come without them."""
        following = rest[0]
        assert isinstance(following, Walk)
        line = Line("GENRES_VALUE", self.vocabulary, GENRES_TOKENS)
        either = Node().add(self.vocabulary.encode("genres:"), (line, following))
        either.children |= following.node.children
        return [Walk("GENRES_NAME", either), *rest[1:]]

    @cached_property
    def _trees(self) -> dict[str, Node]:
        return {field: self._tree(field, values) for field, values in _VALUES.items()}

    def _tree(self, field: str, values: Iterable[object]) -> Node:
        tree = Node()
        for value in values:
            tree.add(self.vocabulary.after(f"{field}:", f" {value}\n"))
        return tree

    def _text(self, text: str, state: str) -> Walk:
        return Walk(state, Node().add(self.vocabulary.encode(text)))


def _written(field: str, value: object) -> object:
    """A value as it stands in its line; a caption of several lines is folded as YAML does."""
    if field not in ("caption", "genres"):
        return value
    text: str = yaml.dump({field: value}, allow_unicode=True)
    return text.removeprefix(f"{field}:").strip()
