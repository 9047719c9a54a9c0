"""Adapters on disk: what is read, and what is refused with which sentence."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from luthier.errors import AdapterError, ModelError
from luthier.music.playing.adapters import (
    AdapterShelf,
    base_note,
    check_fit,
    feeds_of,
    open_adapter,
)
from luthier.music.request_lora import Lora
from luthier.music.torch.model import write_manifest
from luthier.runtime.adaptable import Linear
from luthier.runtime.tensors import tensors_of
from tiny_adapters import write_adapter

LAYERS = {
    f"layers.{i}.{part}": Linear(*size, "", "")
    for i in range(2)
    for part, size in {
        "self_attn.to_q": (6, 6),
        "self_attn.to_k": (6, 4),
        "self_attn.to_out.0": (6, 6),
        "mlp.up_proj": (6, 10),
    }.items()
}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(name: str = "lofi", **more: Any) -> Path:
        return write_adapter(tmp_path / name, LAYERS, **more)

    return made


def changed(folder: Path, **config: Any) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def sentence(folder: Path) -> str:
    with pytest.raises(AdapterError) as refused:
        open_adapter(folder)
    return str(refused.value)


def test_an_adapter_is_its_two_matrices_with_the_scale_in_the_second(make: Make) -> None:
    folder = make()
    stored = load_file(folder / "adapter_model.safetensors")
    layer = open_adapter(folder).layers["layers.0.self_attn.to_k"]
    name = "base_model.model.layers.0.self_attn.to_k"
    np.testing.assert_array_equal(layer.down, stored[f"{name}.lora_A.weight"].T)
    np.testing.assert_allclose(layer.up, stored[f"{name}.lora_B.weight"].T * 5 / 3, rtol=1e-6)
    assert layer.shape == (6, 4)


def test_rslora_scales_by_the_root_of_the_rank(make: Make) -> None:
    plain, stabilised = open_adapter(make()), open_adapter(make("rs", use_rslora=True))
    assert (plain.facts.method, stabilised.facts.method) == ("LoRA", "rsLoRA")
    one, other = (a.layers["layers.1.self_attn.to_q"].up for a in (plain, stabilised))
    np.testing.assert_allclose(other, one * np.sqrt(3), rtol=1e-6)


@pytest.mark.parametrize(
    "prefix", ["base_model.model.", "base_model.model.decoder.", "transformer."]
)
@pytest.mark.parametrize("original_names", [False, True])
def test_the_names_of_every_trainer_mean_the_same_layers(
    make: Make, prefix: str, original_names: bool
) -> None:
    found = open_adapter(make(prefix=prefix, original_names=original_names))
    assert "layers.0.self_attn.to_out.0" in found.layers
    assert found.layers.keys() <= LAYERS.keys()


def test_patterns_give_layers_their_own_rank_and_alpha(make: Make) -> None:
    folder = changed(make(), alpha_pattern={"0.self_attn.to_q": 10})
    layers = open_adapter(folder).layers
    stored = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.layers.{}.self_attn.to_q.lora_B.weight"
    for layer, alpha in ((0, 10), (1, 5)):
        expected = stored[name.format(layer)].T * alpha / 3
        found = layers[f"layers.{layer}.self_attn.to_q"].up
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_widened(make: Make, kind: str) -> None:
    import torch
    from safetensors.torch import save_file as save

    folder = make()
    path = folder / "adapter_model.safetensors"
    exact = open_adapter(folder).layers["layers.0.self_attn.to_q"].down
    halves = {n: torch.tensor(v).to(getattr(torch, kind)) for n, v in load_file(path).items()}
    save(halves, path)
    found = open_adapter(folder).layers["layers.0.self_attn.to_q"].down
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=0.01)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"peft_type": "LOKR", "alpha": 3}, "which says LoKr"),
        ({"use_dora": True}, "which says DoRA"),
        ({"peft_type": "IA3"}, "peft_type is IA3"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base weights"),
        ({"lora_alpha": None}, "lora_alpha is missing"),
        ({"r": -1}, "numbers above 0"),
        ({"r": 10**400}, "numbers above 0"),
        ({"r": 7}, "the configuration says rank 7"),
        ({"rank_pattern": {"(a+)+$": 3}}, "could take forever"),
        ({"rank_pattern": [1]}, "is no object"),
    ],
)
def test_what_cannot_be_played_is_refused_in_a_sentence(
    make: Make, config: dict[str, Any], told: str
) -> None:
    assert told in sentence(changed(make(), **config))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_with_the_layer(make: Make, value: float) -> None:
    path = make() / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.model.layers.1.self_attn.to_q.lora_A.weight"][2, 1] = value
    save_file(tensors, path)
    assert "layers.1.self_attn.to_q" in sentence(path.parent)


def test_foreign_tensors_and_lone_matrices_are_refused(make: Make) -> None:
    path = make() / "adapter_model.safetensors"
    tensors = load_file(path)
    name = "base_model.model.layers.0.self_attn.to_q"
    save_file(tensors | {f"{name}.bias": np.zeros(6, np.float32)}, path)
    assert "to_q.bias" in sentence(path.parent)
    del tensors[f"{name}.lora_B.weight"]
    save_file(tensors, path)
    assert "do not go together" in sentence(path.parent)


def test_pickled_files_are_named_and_never_opened(make: Make) -> None:
    folder = make()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickled" in sentence(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.")
    assert "no safetensors file" in sentence(folder)


def test_a_checkpoint_that_is_not_what_was_written_is_torn(make: Make) -> None:
    folder = make()
    write_manifest(folder)
    assert open_adapter(folder).facts.rank == 3
    path = folder / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert "is torn: the sha256 of adapter_model.safetensors" in sentence(folder)
    (folder / "manifest.json").write_text("[]")
    assert "manifest.json is damaged" in sentence(folder)


def test_folders_that_are_something_else_are_named(tmp_path: Path, make: Make) -> None:
    assert "does not exist" in sentence(tmp_path / "none")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "one of its checkpoints" in sentence(tmp_path / "run")
    (tmp_path / "full" / "transformer").mkdir(parents=True)
    assert "all weights" in sentence(tmp_path / "full")


def test_a_file_of_no_adapter_s_size_is_not_read(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.music.adapters.file.MOST_BYTES", 1000)
    assert "larger than 0.001 MB" in sentence(make())


def _file(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ROW = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2**63) + b"{}",
        _file([]),
        _file(b'{"a": 1, "a": 2}'),
        _file(b"[" * 100_000),
        _file({"a": ROW}, b"\0" * 7),
        _file({"a": ROW}, b"\0" * 9),
        _file({"a": ROW | {"dtype": "I64"}}, b"\0" * 8),
        _file({"a": ROW | {"dtype": ["F32"]}}, b"\0" * 8),
        _file({"a": ROW | {"shape": [-2]}}, b"\0" * 8),
        _file({"a": ROW | {"shape": [True, 2]}}, b"\0" * 8),
        _file({"a": ROW | {"shape": [2**40, 2**40]}}, b"\0" * 8),
        _file({"a": ROW | {"data_offsets": [8, 0]}}, b"\0" * 8),
        _file({"a": ROW | {"data_offsets": [0, 8, 8]}}, b"\0" * 8),
        _file({"a": ROW, "b": ROW}, b"\0" * 8),
        _file({"a": ROW | {"data_offsets": [4, 12]}}, b"\0" * 12),
        _file({"a": 3}),
    ],
)
def test_a_file_that_lies_about_itself_is_damaged(data: bytes) -> None:
    with pytest.raises(ModelError, match="damaged"):
        tensors_of(data, "the file")


@given(st.integers(0, 2000), st.integers(1, 255))
def test_one_wrong_byte_is_read_or_refused(place: int, change: int) -> None:
    header = {"a": ROW, "b": {"dtype": "F16", "shape": [2, 2], "data_offsets": [8, 16]}}
    data = bytearray(_file(header, bytes(range(16))))
    data[place % len(data)] ^= change
    with contextlib.suppress(ModelError):
        for tensor in tensors_of(bytes(data), "the file").tensors.values():
            assert tensor.read().shape == tensor.shape


def test_the_shelf_reads_again_what_has_changed(make: Make) -> None:
    shelf, folder = AdapterShelf(), make()
    first = shelf.get(folder)
    assert shelf.get(folder) is first
    (pinned,) = shelf.pinned([Lora(path=folder)])
    assert pinned.sha256 == first.facts.sha256
    make(seed=1)
    os.utime(folder / "adapter_model.safetensors", ns=(1, 1))
    with pytest.raises(AdapterError, match="has changed since"):
        shelf.chosen([pinned])
    changed(make(), lora_alpha=6)
    with pytest.raises(AdapterError, match="has changed since"):
        shelf.chosen([pinned])


def test_the_shelf_keeps_the_newest_below_its_limit(make: Make) -> None:
    folders = [make(f"a{i}", seed=i) for i in range(3)]
    size = open_adapter(folders[0]).size_bytes
    shelf = AdapterShelf(2 * size)
    one, two, three = (shelf.get(folder) for folder in folders)
    assert shelf.get(folders[2]) is three
    assert shelf.get(folders[1]) is two
    assert shelf.get(folders[0]) is not one
    assert (tiny := AdapterShelf(0)).get(folders[0]) is tiny.get(folders[0])


def test_the_first_layer_that_does_not_fit_is_named(make: Make) -> None:
    adapter = open_adapter(make(base_model_name_or_path="acestep-v15-base"))
    check_fit(adapter.facts, LAYERS, "tiny")
    narrow = LAYERS | {"layers.1.self_attn.to_q": Linear(6, 8, "", "")}
    with pytest.raises(AdapterError, match=r"layers\.1\.self_attn\.to_q has 6 inputs and 6 out"):
        check_fit(adapter.facts, narrow, "tiny")
    fewer = {name: linear for name, linear in LAYERS.items() if "layers.1" not in name}
    with pytest.raises(AdapterError, match=r"no linear layer layers\.1.*\(acestep-v15-base\)"):
        check_fit(adapter.facts, fewer, "tiny")


def test_another_base_model_is_told(make: Make) -> None:
    adapter = open_adapter(make(base_model_name_or_path="./models/acestep-v15-turbo/"))
    assert base_note(adapter.facts, "acestep-v15-turbo") is None
    assert "trained on acestep-v15-turbo" in (base_note(adapter.facts, "mini") or "")
    unknown = open_adapter(make("none", base_model_name_or_path=None))
    assert "does not say" in (base_note(unknown.facts, "mini") or "")


def test_several_adapters_are_one_of_all_their_ranks(make: Make) -> None:
    shelf = AdapterShelf()
    asked = [
        Lora(path=make("one", rank=3), scale=0.5),
        Lora(path=make("two", rank=2, targets=("to_q", "up_proj")), scale=-2),
        Lora(path=make("none", rank=4), scale=0),
    ]
    feeds = feeds_of(shelf.chosen(asked), LAYERS, "tiny")
    ranks = {name: feeds[f"layers.0.{name}.lora_A"].shape[1] for name in
             ("self_attn.to_q", "self_attn.to_k", "mlp.up_proj")}  # fmt: skip
    assert ranks == {"self_attn.to_q": 5, "self_attn.to_k": 3, "mlp.up_proj": 2}
    name = "layers.0.self_attn.to_q"
    one, two = (shelf.get(lora.path).layers[name] for lora in asked[:2])
    expected = 0.5 * one.down @ one.up - 2 * two.down @ two.up
    found = feeds[f"{name}.lora_A"] @ feeds[f"{name}.lora_B"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
