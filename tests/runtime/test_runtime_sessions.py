"""Sessions: shared, within a memory limit, on the provider that was asked for."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.errors import ModelError, RequestError
from luthier.files import sha256_of
from luthier.runtime import providers
from luthier.runtime.pool import SessionKey, SessionPool, bytes_of
from luthier.runtime.session import Graphs
from tiny import tiny_onnx

IDS = {"input_ids": np.array([[1, 2]], np.int64), "attention_mask": np.ones((1, 2), np.int64)}


def key(name: str) -> SessionKey:
    return SessionKey(name, "", 1, "cpu")


def test_the_one_unused_for_longest_closes_first() -> None:
    pool = SessionPool(limit_bytes=100)
    for name in ("a", "b", "a", "c"):
        pool.get(key(name), 40, lambda name=name: name)
    assert [name for name in "abc" if pool.is_open(key(name))] == ["a", "c"]
    assert pool.open_bytes == 80
    pool.set_limit(50)
    assert pool.open_bytes == 40
    assert pool.is_open(key("c"))


def test_without_a_limit_everything_stays_open() -> None:
    pool = SessionPool()
    opened: list[str] = []
    for name in ("a", "b", "a", "b"):
        pool.get(key(name), 10**12, lambda name=name: opened.append(name))
    assert opened == ["a", "b"]


def test_a_graph_above_the_limit_is_refused() -> None:
    with pytest.raises(ModelError, match=r"has 200 MB, more than the memory limit of 100 MB"):
        SessionPool(10**8).get(key("big"), 2 * 10**8, lambda: None)


def test_a_failed_opening_leaves_nothing() -> None:
    pool = SessionPool()

    def broken() -> None:
        raise ModelError("broken")

    with pytest.raises(ModelError, match="broken"):
        pool.get(key("a"), 1, broken)
    assert not pool.is_open(key("a"))


@pytest.mark.parametrize(
    ("text", "size"), [("800M", 8 * 10**8), ("4 GB", 4 * 10**9), ("1.5g", 15 * 10**8), ("7", 7)]
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "0", "-3G", "many", "4T"])
def test_what_is_no_size_is_a_sentence(text: str) -> None:
    with pytest.raises(RequestError, match="write for example 800M or 4G"):
        bytes_of(text)


def test_two_pipelines_share_a_session_and_a_new_export_does_not() -> None:
    pool = SessionPool()
    one, two = (Graphs(tiny_onnx(), 1, pool=pool) for _ in range(2))
    one.run("qwen3_embedding_0p6", IDS)
    size = pool.open_bytes
    two.run("qwen3_embedding_0p6", IDS)
    assert pool.open_bytes == size == (tiny_onnx() / "qwen3_embedding_0p6.onnx").stat().st_size
    Graphs(tiny_onnx("int8"), 1, pool=pool).run("qwen3_embedding_0p6", IDS)
    assert pool.open_bytes > size
    one.release()
    assert pool.open_bytes < 2 * size


def test_a_tight_limit_plays_the_same(tmp_path: Path) -> None:
    from luthier.music.playing.pipeline import MusicPipeline
    from luthier.music.request import request_from

    request = request_from({"prompt": "x", "duration": 1, "seed": 1})
    largest = max(path.stat().st_size for path in tiny_onnx().glob("*.onnx"))
    pool = SessionPool(largest)
    tight = MusicPipeline(tiny_onnx(), 1, pool=pool).generate(request)
    assert np.array_equal(tight.audio, MusicPipeline(tiny_onnx(), 1).generate(request).audio)
    assert pool.open_bytes <= largest


def test_bound_inputs_give_the_same() -> None:
    graphs = Graphs(tiny_onnx(), 1)
    expected = graphs.run("qwen3_embedding_0p6", IDS)["last_hidden_state"]
    bound = graphs.bind("qwen3_embedding_0p6", {"attention_mask": IDS["attention_mask"]})
    for _ in range(2):
        found = bound({"input_ids": IDS["input_ids"]})["last_hidden_state"]
        assert np.array_equal(found, expected)
    with pytest.raises(ModelError, match="wants input_ids"):
        bound({})


def test_parts_of_a_piece_run_at_once_in_one_session() -> None:
    pool = SessionPool()
    graphs = Graphs(tiny_onnx(), 3, pool=pool)
    assert graphs.workers == 3
    expected = graphs.run("qwen3_embedding_0p6", IDS)["last_hidden_state"]
    whole = pool.open_bytes
    with ThreadPoolExecutor(graphs.workers) as threads:
        parts = threads.map(
            lambda _: graphs.run("qwen3_embedding_0p6", IDS, is_part=True), range(6)
        )
        for part in parts:
            np.testing.assert_allclose(part["last_hidden_state"], expected, atol=1e-6)
    assert pool.open_bytes == 2 * whole
    graphs.release()
    assert pool.open_bytes == 0


def test_only_activations_in_eight_bits_depend_on_the_batch() -> None:
    assert Graphs(tiny_onnx()).is_batch_independent("dit_decoder")
    assert not Graphs(tiny_onnx("int8")).is_batch_independent("dit_decoder")


def test_an_absent_provider_names_those_that_are_there() -> None:
    absent = next(
        n for n in ("cuda", "directml", "coreml") if n not in providers.available_providers()
    )
    with pytest.raises(RequestError, match=rf"{absent} is not in this installation .* has .*cpu"):
        Graphs(tiny_onnx(), provider=absent)
    with pytest.raises(RequestError, match="choose one of auto, cuda, directml, coreml, cpu"):
        Graphs(tiny_onnx(), provider="tpu")


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    present = ["AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: present)
    assert providers.provider_named("auto") == "CPUExecutionProvider"
    present.insert(0, "CUDAExecutionProvider")
    assert providers.provider_named("auto") == "CUDAExecutionProvider"
    assert providers.available_providers() == ("cuda", "cpu")


def rewritten(folder: Path, change: dict[str, Any]) -> Path:
    """The model with other values in its contract, and a manifest that agrees."""
    path = folder / "io_contract_core.json"
    contract = json.loads(path.read_text()) | change
    path.write_text(json.dumps(contract))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.name] = {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_onnx("int8"), tmp_path / "model"))


def test_a_contract_of_another_version_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="contracts of version 9; this luthier reads version 1"):
        Graphs(rewritten(folder, {"contract_version": 9}))


def test_a_graph_that_is_not_what_its_contract_says_is_refused(folder: Path) -> None:
    names = json.loads((folder / "io_contract_core.json").read_text())["outputs"]
    graphs = Graphs(rewritten(folder, {"outputs": names | {"vae_decoder": ["sound"]}}))
    with pytest.raises(ModelError, match="gives audio, which is not what its contract says"):
        graphs.run("vae_decoder", {"latents": np.zeros((1, 8, 4), np.float32)})


def test_a_model_without_a_graph_says_which(folder: Path) -> None:
    contract = json.loads((folder / "io_contract_core.json").read_text())
    contract["inputs"].pop("audio_code_embedding", None)
    graphs = Graphs(rewritten(folder, {"inputs": contract["inputs"]}))
    with pytest.raises(ModelError, match="no graph audio_code_embedding: export it again"):
        graphs.run("audio_code_embedding", {})
