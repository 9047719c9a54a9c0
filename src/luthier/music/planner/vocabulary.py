"""What the planner's grammar must know of a tokenizer: which tokens are text, which are codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from luthier.errors import ModelError

Ids = NDArray[np.int64]


class Vocabulary:
    """A tokenizer with audio codes at its end.

    Args:
        first_code: the token of audio code 0.
        legal_codes: how many codes there are; tokens above them are never allowed.
    """

    def __init__(self, tokenizer: Tokenizer, first_code: int, legal_codes: int) -> None:
        self.tokenizer, self.first_code, self.legal_codes = tokenizer, first_code, legal_codes
        self.end = self._special("<|im_end|>")
        self.pad = self._special("<|endoftext|>")
        self.codes: Ids = np.arange(first_code, first_code + legal_codes)

    def _special(self, name: str) -> int:
        found = self.tokenizer.token_to_id(name)
        if found is None:
            raise ModelError(f"the planner's tokenizer has no {name}: it is of another model.")
        return int(found)

    def encode(self, text: str) -> list[int]:
        """Token numbers, nothing added."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text, marks such as `<think>` included."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False)
        return text

    def after(self, head: str, tail: str) -> tuple[int, ...]:
        """The tokens of `tail` as they come after `head`, both being whole lines or names."""
        both, start = self.encode(head + tail), self.encode(head)
        if both[: len(start)] == start:
            return tuple(both[len(start) :])
        return tuple(self.encode(tail))

    @cached_property
    def newline(self) -> int:
        """The token of a line break."""
        (token,) = self.encode("\n")
        return int(token)

    @cached_property
    def _texts(self) -> dict[int, str]:
        """Ordinary tokens as what they stand for, with bytes as characters of the same number."""
        marks = {int(i) for i in self.tokenizer.get_added_tokens_decoder()}
        table = _byte_characters()
        found = {}
        for token, number in self.tokenizer.get_vocab(with_added_tokens=False).items():
            if number < self.first_code and number not in marks:
                found[number] = "".join(table.get(character, "\ufffd") for character in token)
        return found

    @cached_property
    def lyric_tokens(self) -> Ids:
        """Everything but marks and audio codes, and what ends a turn."""
        return np.array(sorted([*self._texts, self.end, self.pad]))

    @cached_property
    def caption_tokens(self) -> Ids:
        """Text without back-ticks whose only line break, if any, is its end."""
        return self._select(lambda t: "`" not in t and "\n" not in t[:-1])

    @cached_property
    def first_caption_tokens(self) -> Ids:
        """Those that say something: a caption is not empty."""
        return self._select(
            lambda t: "`" not in t and "\n" not in t and bool(t.strip()) and t.strip() != "'"
        )

    @cached_property
    def continuation_tokens(self) -> Ids:
        """Those that may begin a line that goes on: with a space, and no break."""
        return self._select(lambda t: t[:1] == " " and "`" not in t and "\n" not in t)

    @cached_property
    def breaking(self) -> frozenset[int]:
        """Those that end a line."""
        return frozenset(number for number, text in self._texts.items() if text.endswith("\n"))

    def _select(self, wanted: Callable[[str], bool]) -> Ids:
        return np.array(sorted(number for number, text in self._texts.items() if wanted(text)))


def _byte_characters() -> dict[str, str]:
    """GPT-2's printable stand-ins for bytes → the characters of the bytes' numbers."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    shown = plain + [256 + place for place in range(len(others))]
    return {chr(s): chr(b) for s, b in zip(shown, plain + others, strict=True)}
