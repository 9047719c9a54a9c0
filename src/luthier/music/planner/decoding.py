"""Several texts side by side through the language model, each within its grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.music.planner.grammar import Grammar
from luthier.music.planner.sampling import Sampling, choose, guided
from luthier.progress import SILENT, Display
from luthier.runtime.kv import LanguageModel


@dataclass
class Text:
    """One text to write.

    Attributes:
        prompt: tokens to read first.
        unconditional: tokens of the prompt to be guided away from; none for no guidance.
        draw: the source of this text's randomness, its own, so that no other text changes it.
    """

    prompt: list[int]
    grammar: Grammar
    draw: np.random.Generator
    unconditional: list[int] | None = None


def write(
    lm: LanguageModel,
    texts: Sequence[Text],
    sampling: Sampling,
    room: int,
    *,
    codes_only: bool = False,
    display: Display = SILENT,
) -> list[list[int]]:
    """Write every text to the end of its grammar; the tokens of each.

    Args:
        texts: all of them guided, or none.
        room: the most tokens one of them may become, prompt not counted.
        codes_only: the grammars allow audio codes only; the logits of words are not computed.
    """
    guiding = [text.unconditional for text in texts if text.unconditional is not None]
    first_code = lm.contract.first_code if codes_only else 0
    openings = [text.grammar.accept_forced() for text in texts]
    rows = [t.prompt + o for t, o in zip(texts, openings, strict=True)]
    rows += [row + o for row, o in zip(guiding, openings, strict=False)]
    ids, mask = _padded(rows)
    seen = [_seen(lm, row) for row in rows[: len(texts)]] if _penalised(sampling) else None
    reader = lm.reader(len(rows), ids.shape[1] + room)
    with display.task("plan", total=room) as task:
        while not all(text.grammar.finished for text in texts):
            logits = reader.read(ids, mask, codes_only=codes_only)
            steps = []
            for index, text in enumerate(texts):
                row = logits[index :: len(texts)]
                steps.append(_next(text, row, sampling, first_code, seen[index] if seen else None))
            if len(texts) == 1:  # what is certain need not be asked for
                steps[0] += texts[0].grammar.accept_forced()
                if seen:
                    seen[0][steps[0]] = True
            new = [step or [0] for step in steps]
            ids = np.array(new * (1 + bool(guiding)), np.int64)
            mask = np.ones_like(ids)
            task.advance(ids.shape[1])
    return [text.grammar.tokens for text in texts]


def _next(
    text: Text,
    logits: NDArray[np.float32],
    sampling: Sampling,
    first: int,
    seen: NDArray[np.bool_] | None,
) -> list[int]:
    """One more token of a text, drawn from its rows of logits; none when it is finished."""
    grammar = text.grammar
    if grammar.finished:
        return []
    ids = grammar.allowed
    if len(ids) == 1:
        token = int(ids[0])
    else:
        open_logits = logits[0][ids - first]
        if len(logits) > 1:
            open_logits = guided(open_logits, logits[1][ids - first], sampling.cfg_scale)
        rule = Sampling(temperature=0.0) if grammar.greedy else sampling
        place = choose(open_logits, rule, text.draw, None if seen is None else seen[ids])
        token = int(ids[place])
    grammar.accept(token)
    if seen is not None:
        seen[token] = True
    return [token]


def _padded(rows: Sequence[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token numbers and mask [B, longest], padded on the left."""
    longest = max(len(row) for row in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = row
        mask[index, longest - len(row) :] = 1
    return ids, mask


def _penalised(sampling: Sampling) -> bool:
    return sampling.repetition_penalty != 1.0


def _seen(lm: LanguageModel, row: list[int]) -> NDArray[np.bool_]:
    seen = np.zeros(lm.contract.first_code + lm.contract.legal_codes, bool)
    seen[[token for token in row if token < len(seen)]] = True
    return seen
