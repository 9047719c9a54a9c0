from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

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


def tiles_of(frames: int, workers: int, overlap: int = 4) -> list[int]:
    """The lengths that are decoded, in the order in which they are asked for."""
    sizes: list[int] = []

    def counted(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(latents.shape[2])
        return held(latents)

    latents = np.random.default_rng(0).standard_normal((1, 2, frames)).astype(np.float32)
    blocks = decode_tiles(counted, latents, HOP, tile=100, overlap=overlap, workers=workers)
    found = np.concatenate(list(blocks), axis=1)
    assert found == pytest.approx(held(latents)[0], abs=1e-6)
    return sorted(sizes)


@pytest.mark.parametrize("frames", [1, 90, 101, 777])
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_tiles_that_are_decoded_at_once_join_to_the_whole(frames: int, workers: int) -> None:
    assert max(tiles_of(frames, workers)) <= 100


def test_workers_share_what_one_tile_would_hold() -> None:
    assert tiles_of(80, 1) == [80]
    assert tiles_of(80, 2) == [44, 44]
    assert len(tiles_of(80, 4)) == 4


def test_what_is_shorter_than_its_surroundings_is_not_shared() -> None:
    assert tiles_of(8, 2, overlap=8) == [8]


def test_only_as_many_tiles_as_workers_are_decoded_at_once() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def counted(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return held(latents)

    list(decode_tiles(counted, np.zeros((1, 2, 900), np.float32), HOP, tile=100, overlap=4,
                      workers=3))  # fmt: skip
    assert most == 3


def test_a_tile_that_fails_ends_the_decoding() -> None:
    calls: list[int] = []

    def broken(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(latents.shape[2])
        raise ModelError("broken")

    blocks = decode_tiles(
        broken, np.zeros((1, 2, 5000), np.float32), HOP, tile=100, overlap=4, workers=2
    )
    with pytest.raises(ModelError, match="broken"):
        list(blocks)
    assert len(calls) <= 2


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


def test_the_tokenizer_s_own_post_processor_adds_its_token_and_keeps_it() -> None:
    """The published Qwen3-Embedding tokenizers append <|endoftext|>, also to a text that is cut."""
    tokenizer = Tokenizer.from_str(tiny_tokenizer().to_str())
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
    )
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    for text in ("calm piano", "calm piano " * 20, "x"):
        found = token_ids(tokenizer, text, 8)
        assert found.tolist() == [theirs(text, truncation=True, max_length=8).input_ids]
        assert found[0, -1] == end
    assert token_ids(tokenizer, "", 1).tolist() == [[end]]


def test_padding_and_truncation_of_a_tokenizer_s_file_are_not_ours(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(tiny_tokenizer().to_str())
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=30)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    text = "calm piano with strings"
    assert token_ids(loaded, text, 64).tolist() == token_ids(tiny_tokenizer(), text, 64).tolist()


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing"):
        load_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_tokenizer(tmp_path / "tokenizer.json")
