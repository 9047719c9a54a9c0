"""Text to token numbers, by the rules that the text encoder was trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from luthier.errors import ModelError


def load_tokenizer(path: Path) -> Tokenizer:
    """Open a `tokenizer.json`; raise `ModelError` when it is missing or damaged."""
    if not path.is_file():
        raise ModelError(f"the tokenizer {path} is missing: the model folder is incomplete.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelError(f"the tokenizer {path} cannot be read: {error}.") from error


def token_ids(tokenizer: Tokenizer, text: str, limit: int) -> NDArray[np.int64]:
    """Token numbers [1, n]: no special tokens added, empty text is one space, cut after `limit`."""
    ids = tokenizer.encode(text or " ", add_special_tokens=False).ids[:limit]
    return np.array([ids], dtype=np.int64)
