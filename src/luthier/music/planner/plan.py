"""What a planner made: facts, lyrics, audio codes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]

from luthier.music.planner.facts import Facts


@dataclass(frozen=True)
class Plan:
    """One plan.

    Attributes:
        facts: the user's, and the planner's where the user said nothing.
        lyrics: the planner's where it wrote some, else the user's.
        codes: five a second; none when none were asked for.
        text: the answer of the language model as it came, without codes.
    """

    mode: str
    seed: int
    facts: Facts
    lyrics: str
    codes: tuple[int, ...]
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is not known is left out."""
        rest = asdict(self)
        rest.pop("facts")
        rest["codes"] = list(self.codes)
        return self.facts.given() | rest

    def as_yaml(self) -> str:
        """For people: the facts, the lyrics, and the codes in one line."""
        value = self.as_dict()
        value.pop("text")
        codes = value.pop("codes")
        shown: str = yaml.dump(value, allow_unicode=True, sort_keys=False)
        return shown + (f"codes: {codes}\n" if codes else "")
