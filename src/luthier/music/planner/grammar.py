"""What the language model may say next: a plan's text as a line of parts, each with its tokens.

Fields with few values are prefix trees over the tokens of ` value` and a line break, so that a
value is always written with the tokens the model was trained on; a value that the user gave is a
tree of one branch. The states and the order of fields are ACE-Step's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from luthier.music.planner.vocabulary import Ids, Vocabulary

CAPTION_TOKENS, GENRES_TOKENS, LYRICS_TOKENS = 512, 64, 2048


class Node:
    """A prefix tree of token sequences. A leaf may say which parts come next."""

    def __init__(self) -> None:
        self.children: dict[int, Node] = {}
        self.then: tuple[Part, ...] = ()
        self._ids: Ids | None = None

    def add(self, tokens: Iterable[int], then: Sequence[Part] = ()) -> Node:
        """Add one sequence; the tree itself."""
        node = self
        for token in tokens:
            node = node.children.setdefault(token, Node())
        node.then = tuple(then)
        return self

    @property
    def ids(self) -> Ids:
        """The tokens that lead on."""
        if self._ids is None:
            self._ids = np.array(sorted(self.children))
        return self._ids


class Part(Protocol):
    """One state of the grammar. It is never changed: `after` gives what follows a token."""

    name: str

    @property
    def allowed(self) -> Ids:
        """The tokens that may come next."""

    @property
    def greedy(self) -> bool:
        """Whether the likeliest is taken here, whatever the temperature."""

    def after(self, token: int) -> tuple[Part, ...]:
        """The parts that stand for this one once it has got `token`."""


class Walk:
    """Along a prefix tree: a fixed text, or one of several values."""

    def __init__(self, name: str, node: Node, *, greedy: bool = False) -> None:
        self.name, self.node, self.greedy = name, node, greedy

    @property
    def allowed(self) -> Ids:
        """The branches."""
        return self.node.ids

    def after(self, token: int) -> tuple[Part, ...]:
        """The rest of the branch."""
        node = self.node.children[token]
        return (Walk(self.name, node),) if node.children else node.then


class Caption:
    """Free text that may go on over indented lines; the next field's name ends it.

    Args:
        follow: what comes next, after a line break.
        said: tokens so far.
    """

    greedy = False

    def __init__(
        self,
        vocabulary: Vocabulary,
        follow: Walk,
        limit: int,
        said: int = 0,
        broken: bool = False,
    ) -> None:
        self.name = "CAPTION_VALUE"
        self.vocabulary, self.follow, self.limit = vocabulary, follow, limit
        self.said, self.broken = said, broken

    @property
    def allowed(self) -> Ids:
        """Text; after a line break the next field or an indented line; at the limit, the end."""
        words = self.vocabulary
        if self.said >= self.limit:
            return self.follow.allowed if self.broken else np.array([words.newline])
        if self.said == 0:
            return words.first_caption_tokens
        if self.broken:
            return np.concatenate([words.continuation_tokens, self.follow.allowed])
        return words.caption_tokens

    def after(self, token: int) -> tuple[Part, ...]:
        """The caption, one token longer, or what follows it."""
        if self.broken and token in self.follow.node.children:
            return self.follow.after(token)
        broken = token in self.vocabulary.breaking
        return (Caption(self.vocabulary, self.follow, self.limit, self.said + 1, broken),)


class Line:
    """Free text up to the end of its line."""

    greedy = False

    def __init__(self, name: str, vocabulary: Vocabulary, limit: int, said: int = 0) -> None:
        self.name, self.vocabulary, self.limit, self.said = name, vocabulary, limit, said

    @property
    def allowed(self) -> Ids:
        """Text; at the limit, the line break."""
        if self.said >= self.limit:
            return np.array([self.vocabulary.newline])
        words = self.vocabulary
        return words.caption_tokens if self.said else words.first_caption_tokens

    def after(self, token: int) -> tuple[Part, ...]:
        """The line, one token longer, or nothing."""
        if token in self.vocabulary.breaking:
            return ()
        return (Line(self.name, self.vocabulary, self.limit, self.said + 1),)


class Lyrics:
    """Free text without audio codes, up to the end of the turn."""

    greedy = False

    def __init__(self, vocabulary: Vocabulary, limit: int) -> None:
        self.name, self.vocabulary, self.limit = "LYRICS", vocabulary, limit

    @property
    def allowed(self) -> Ids:
        """Text and the end; at the limit, the end."""
        end = np.array([self.vocabulary.end])
        return self.vocabulary.lyric_tokens if self.limit > 0 else end

    def after(self, token: int) -> tuple[Part, ...]:
        """The rest, unless that was the end."""
        if token in (self.vocabulary.end, self.vocabulary.pad):
            return ()
        return (Lyrics(self.vocabulary, self.limit - 1),)


class Codes:
    """So many audio codes, no more and no fewer."""

    greedy = False

    def __init__(self, vocabulary: Vocabulary, count: int) -> None:
        self.name, self.vocabulary, self.count = "CODES_GENERATION", vocabulary, count

    @property
    def allowed(self) -> Ids:
        """The codes of the quantiser."""
        return self.vocabulary.codes

    def after(self, token: int) -> tuple[Part, ...]:
        """The rest of the codes."""
        return (Codes(self.vocabulary, self.count - 1),) if self.count > 1 else ()


class Grammar:
    """Where one text stands: what may come next, and what was said."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(reversed(parts))
        self.tokens: list[int] = []

    @property
    def state(self) -> str:
        """The name of the current state."""
        return self._parts[-1].name if self._parts else "COMPLETED"

    @property
    def finished(self) -> bool:
        """Whether all is said."""
        return not self._parts

    @property
    def allowed(self) -> Ids:
        """The tokens that may come next."""
        return self._parts[-1].allowed

    @property
    def greedy(self) -> bool:
        """Whether the likeliest of them is to be taken."""
        return self._parts[-1].greedy

    def accept(self, token: int) -> None:
        """Say one of the allowed tokens."""
        part = self._parts.pop()
        self._parts.extend(reversed(part.after(token)))
        self.tokens.append(token)

    def accept_forced(self) -> list[int]:
        """Say everything up to the next choice; the tokens."""
        start = len(self.tokens)
        while self._parts:
            allowed = self.allowed
            if len(allowed) > 1:
                break
            self.accept(int(allowed[0]))
        return self.tokens[start:]
