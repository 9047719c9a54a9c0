from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.errors import ModelError
from luthier.runtime.text import load_tokenizer, token_ids
from luthier.runtime.tiles import decode_tiles, encode_tiles
from tiny import tiny_tokenizer

HOP = 4
TILE, OVERLAP = 512, 64


def held(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every frame held for a hop: a decoder that needs no context."""
    return np.repeat(latents, HOP, axis=2)[:, :2]


def joined(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate(
        list(decode_tiles(held, latents, HOP, tile=TILE, overlap=OVERLAP)), axis=1
    )


@pytest.mark.parametrize("frames", [1, TILE, TILE + 1, 769, 900, 2000])
def test_tiles_join_to_the_whole(frames: int) -> None:
    latents = np.random.default_rng(0).standard_normal((1, 3, frames)).astype(np.float32)
    assert joined(latents) == pytest.approx(held(latents)[0], abs=1e-6)


def test_tiles_are_bounded_and_overlap() -> None:
    sizes: list[int] = []

    def counted(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(latents.shape[2])
        return held(latents)

    blocks = decode_tiles(
        counted, np.zeros((1, 2, 1500), np.float32), HOP, tile=TILE, overlap=OVERLAP
    )
    assert sum(block.shape[1] for block in blocks) == 1500 * HOP
    assert max(sizes) <= TILE
    assert sum(sizes) >= 1500 + 2 * OVERLAP * (len(sizes) - 1)


def smoothed(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of each hop and its neighbours: an encoder that hears one frame around."""
    frames = audio.reshape(1, 2, -1, HOP).mean(axis=(1, 3))
    padded = np.pad(frames, ((0, 0), (1, 1)))
    return (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:])[:, None]


@pytest.mark.parametrize("frames", [1, 30, 31, 100, 777])
def test_encoding_in_tiles_is_encoding_the_whole(frames: int) -> None:
    audio = np.random.default_rng(0).standard_normal((1, 2, frames * HOP)).astype(np.float32)
    tiled = encode_tiles(smoothed, audio, HOP, tile=30, overlap=2)
    assert np.array_equal(tiled, smoothed(audio))


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
