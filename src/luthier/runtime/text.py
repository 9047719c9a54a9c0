"""Text to token numbers, by the rules that the text encoder was trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from luthier.errors import ModelError


def load_tokenizer(path: Path) -> Tokenizer:
    """Open a `tokenizer.json`, without the padding and truncation that it may ask for.

    Raises:
        ModelError: it is missing or damaged.
    """
    if not path.is_file():
        raise ModelError(f"the tokenizer {path} is missing: the model folder is incomplete.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelError(f"the tokenizer {path} cannot be read: {error}.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def token_ids(tokenizer: Tokenizer, text: str, limit: int) -> NDArray[np.int64]:
    """Token numbers [1, n], n ≤ `limit`, of a text for the text encoder; empty text is one space.

    The tokenizer's own post-processor adds its special tokens, as in transformers: the published
    Qwen3-Embedding tokenizers append `<|endoftext|>` (QwenLM/Qwen3-Embedding#122), and a text that
    is too long is cut so that they still fit. Prompts of the planner's language models add none.
    """
    encoding = tokenizer.encode(text or " ", add_special_tokens=False)
    added = tokenizer.num_special_tokens_to_add(is_pair=False)
    encoding.truncate(max(0, limit - added))
    ids = tokenizer.post_process(encoding, add_special_tokens=True).ids[:limit]
    return np.array([ids], dtype=np.int64)
