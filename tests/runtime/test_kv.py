"""The language model on ONNX Runtime against transformers, place by place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen3ForCausalLM

from luthier.errors import ModelError
from luthier.files import read_json, write_json
from luthier.runtime import kv
from luthier.runtime.kv import LanguageModel, find_lms
from tiny_lm import CODES, tiny_lm_onnx, tiny_lm_torch


@pytest.fixture(scope="module")
def reference() -> Any:
    return Qwen3ForCausalLM.from_pretrained(tiny_lm_torch()).eval()


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel(tiny_lm_onnx(), find_lms(tiny_lm_onnx())["0.6B"], threads=1)


def expected(model: Any, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """transformers' logits of what follows the last token."""
    seen = torch.from_numpy(mask)
    places = (seen.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids), attention_mask=seen, position_ids=places).logits
    return logits[:, -1].numpy()


def tokens(model: Any, items: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, model.config.vocab_size, (items, count))


@pytest.mark.parametrize("items", [1, 2, 3])
def test_prompt_and_steps_give_the_logits_of_transformers(
    lm: LanguageModel, reference: Any, items: int
) -> None:
    ids = tokens(reference, items, 9)
    mask = np.ones_like(ids)
    mask[0, :4] = 0  # shorter than the others
    reader = lm.reader(items, 20)
    found = reader.read(ids, mask)
    for step in range(5):
        assert np.abs(found - expected(reference, ids, mask)).max() < 1e-4
        new = tokens(reference, items, 2 if step == 3 else 1, seed=step)
        ids, mask = np.hstack([ids, new]), np.hstack([mask, np.ones_like(new)])
        found = reader.read(new)
    assert reader.length == ids.shape[1]


def test_the_cache_grows_in_place_and_the_past_stays(lm: LanguageModel, reference: Any) -> None:
    reader = lm.reader(2, 12)
    where = {name: value.data_ptr() for name, value in reader.cache.items()}
    reader.read(tokens(reference, 2, 5))
    before = {name: value.numpy()[:, :, :5].copy() for name, value in reader.cache.items()}
    reader.read(tokens(reference, 2, 1))
    assert reader.length == 6
    assert len(before) == 2 * lm.contract.num_layers
    for name, value in reader.cache.items():
        assert value.data_ptr() == where[name]
        assert np.array_equal(value.numpy()[:, :, :5], before[name])
        assert np.abs(value.numpy()[:, :, 5]).max() > 0
    config = reference.config
    width = config.num_key_value_heads * config.head_dim
    assert reader.cache_bytes == 2 * config.num_hidden_layers * 2 * 12 * width * 4


def test_codes_alone_are_the_end_of_all_logits(lm: LanguageModel, reference: Any) -> None:
    ids = tokens(reference, 2, 7)
    everything = lm.reader(2, 7).read(ids)
    codes = lm.reader(2, 7).read(ids, codes_only=True)
    assert codes.shape == (2, CODES)
    assert np.array_equal(codes, everything[:, lm.contract.first_code :])


def test_a_long_prompt_is_read_in_pieces(
    lm: LanguageModel, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tokens(reference, 1, 50)
    monkeypatch.setattr(kv, "_CHUNK", 16)
    found = lm.reader(1, 50).read(ids)
    assert np.abs(found - expected(reference, ids, np.ones_like(ids))).max() < 1e-4


def test_no_more_is_read_than_there_is_room_for(lm: LanguageModel, reference: Any) -> None:
    reader = lm.reader(1, 4)
    with pytest.raises(ModelError, match="5 tokens, room was made for 4"):
        reader.read(tokens(reference, 1, 5))
    with pytest.raises(ModelError, match="shorten the lyrics or the duration"):
        lm.reader(1, 10_000)


def test_a_session_is_opened_when_needed_and_again_after_release() -> None:
    model = LanguageModel(tiny_lm_onnx(), find_lms(tiny_lm_onnx())["0.6B"], threads=1)
    first = model.session
    assert model.session is first
    model.release()
    assert model.session is not first


def test_damaged_weights_are_told_before_they_are_used(tmp_path: Path) -> None:
    for path in tiny_lm_onnx().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = tmp_path / "lm_0p6.onnx.data"
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    model = LanguageModel(tmp_path, find_lms(tmp_path)["0.6B"], threads=1)
    with pytest.raises(ModelError, match="damaged"):
        _ = model.session


def test_a_damaged_contract_is_told(tmp_path: Path) -> None:
    for path in tiny_lm_onnx().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    contract = tmp_path / "io_contract_lm_0p6.json"
    write_json(contract, {k: v for k, v in read_json(contract).items() if k != "first_code"})
    with pytest.raises(ModelError, match="io_contract_lm_0p6"):
        find_lms(tmp_path)
