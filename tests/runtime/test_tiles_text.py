from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.errors import ModelError
from luthier.runtime.text import load_tokenizer, token_ids
from luthier.runtime.tiles import OVERLAP_FRAMES, TILE_FRAMES, decode_tiled
from tiny import tiny_tokenizer

HOP = 4


def held(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every frame held for a hop: a decoder that needs no context."""
    return np.repeat(latents, HOP, axis=2)[:, :2]


@pytest.mark.parametrize("frames", [1, TILE_FRAMES, TILE_FRAMES + 1, 900, 2000])
def test_tiles_join_to_the_whole(frames: int) -> None:
    latents = np.random.default_rng(0).standard_normal((1, 3, frames)).astype(np.float32)
    assert decode_tiled(held, latents, HOP) == pytest.approx(held(latents), abs=1e-6)


def test_tiles_are_bounded_and_overlap() -> None:
    sizes: list[int] = []

    def counted(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(latents.shape[2])
        return held(latents)

    decode_tiled(counted, np.zeros((1, 2, 1500), np.float32), HOP)
    assert max(sizes) <= TILE_FRAMES
    assert sum(sizes) >= 1500 + 2 * OVERLAP_FRAMES * (len(sizes) - 1)


def test_tokens_are_cut_and_never_empty() -> None:
    tokenizer = tiny_tokenizer()
    assert token_ids(tokenizer, "", 8).tolist() == token_ids(tokenizer, " ", 8).tolist()
    assert token_ids(tokenizer, "calm piano " * 20, 8).shape == (1, 8)
    end = tokenizer.token_to_id("<|endoftext|>")
    assert token_ids(tokenizer, "x<|endoftext|>", 8)[0, -1] == end
    assert end not in token_ids(tokenizer, "x", 8)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing"):
        load_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_tokenizer(tmp_path / "tokenizer.json")
