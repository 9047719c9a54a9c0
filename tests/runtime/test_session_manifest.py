from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from luthier.errors import ModelError
from luthier.runtime.manifest import verify_manifest
from luthier.runtime.session import Graphs
from tiny import tiny_onnx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_onnx("int8"), tmp_path / "model"))


def test_an_export_is_whole(folder: Path) -> None:
    manifest = verify_manifest(folder)
    assert {"tokenizer.json", "luthier.json", "silence_latent.npy"} <= set(manifest.files)
    assert len(manifest.graphs) == 9


@pytest.mark.parametrize("name", ["dit_decoder.onnx", "tokenizer.json", "silence_latent.npy"])
def test_a_changed_byte_is_found(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(
        ModelError, match=rf"{name} is damaged: its sha256 is .*, the manifest says"
    ):
        verify_manifest(folder)


def test_a_torn_file_is_found_by_its_size(folder: Path) -> None:
    data = (folder / "vae_decoder.onnx").read_bytes()
    (folder / "vae_decoder.onnx").write_bytes(data[:-1])
    with pytest.raises(ModelError, match=r"has .* bytes, the manifest says"):
        Graphs(folder).run("vae_decoder", {})


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "dit_decoder.onnx").unlink()
    with pytest.raises(ModelError, match=r"dit_decoder.onnx is missing"):
        Graphs(folder).run("dit_decoder", {})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"models": 3}'])
def test_a_damaged_manifest_is_a_sentence(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ModelError, match=r"manifest.json|is not a model folder"):
        Graphs(folder)


def test_no_model_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model folder of luthier"):
        Graphs(tmp_path / "nowhere")


def test_only_what_is_run_is_opened_and_checked(folder: Path) -> None:
    (folder / "vae_decoder.onnx").write_bytes(b"x")
    graphs = Graphs(folder, threads=1)
    ids = np.array([[1, 2, 3]], dtype=np.int64)
    found = graphs.run("qwen3_token_embedding_0p6", {"input_ids": ids, "unknown": ids})
    assert found["token_embeddings"].shape == (1, 3, 24)


def test_a_missing_input_names_it(folder: Path) -> None:
    with pytest.raises(ModelError, match="wants attention_mask"):
        Graphs(folder).run("qwen3_embedding_0p6", {"input_ids": np.ones((1, 2), np.int64)})


def test_paths_come_from_the_contract(folder: Path) -> None:
    (folder / "audio_detokenizer.onnx").rename(folder / "other.onnx")
    contract = json.loads((folder / "io_contract_core.json").read_text())
    contract["paths"]["audio_detokenizer"] = "other.onnx"
    (folder / "io_contract_core.json").write_text(json.dumps(contract))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["core"]["other.onnx"] = manifest["models"]["core"]["audio_detokenizer.onnx"]
    del manifest["files"]["io_contract_core.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"has no io_contract_core.json"):
        Graphs(folder)
    from luthier.files import sha256_of

    path = folder / "io_contract_core.json"
    manifest["files"][path.name] = {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    codes = np.zeros((1, 3, 32), np.float32)
    hints = Graphs(folder).run("audio_detokenizer", {"quantized": codes})
    assert hints["lm_hints_25hz"].shape == (1, 30, 8)


def test_a_released_session_opens_again(folder: Path) -> None:
    graphs = Graphs(folder)
    feeds = {"input_ids": np.array([[1]], np.int64)}
    first = graphs.run("qwen3_token_embedding_0p6", feeds)["token_embeddings"]
    graphs.release()
    again = graphs.run("qwen3_token_embedding_0p6", feeds)["token_embeddings"]
    assert np.array_equal(first, again)
