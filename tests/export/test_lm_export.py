"""The exported language model against transformers and against the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.torch import load_file, save_file

from luthier.errors import ModelError, RequestError
from luthier.export.lm_weights import quantised
from luthier.files import read_json, write_json
from luthier.music.export.planner import LM_PRECISIONS, export_lm, write_lm
from luthier.runtime.manifest import verify_manifest
from tiny_lm import CODES, make_tiny_lm, tiny_lm_onnx, tiny_lm_torch

TAG = "lm_0p6"


def exported(folder: Path, model: Path | None = None, **options: Any) -> Any:
    return export_lm(model or tiny_lm_torch(), folder, variant="0.6B", **options)


def test_the_graphs_give_what_transformers_gives(tmp_path: Path) -> None:
    made = exported(tmp_path / "x", precision="fp32", verify=True)
    assert set(made.parity) == {"prefill", "decode"}
    assert max(parity.max_abs for parity in made.parity.values()) < 1e-3


@pytest.mark.parametrize(("precision", "least_db"), [("fp16", 50), ("int8", 25), ("int4", 7)])
def test_fewer_bits_stay_near(tmp_path: Path, precision: str, least_db: float) -> None:
    made = exported(tmp_path / "x", precision=precision, verify=True)
    assert min(parity.snr_db for parity in made.parity.values()) > least_db


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 512,
            }
        },
    ],
    ids=["own head", "linear positions", "yarn positions"],
)
def test_other_configurations_come_out_right(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = make_tiny_lm(tmp_path / "torch", seed=1, **changes)
    made = exported(tmp_path / "x", model, precision="fp32", verify=True)
    assert max(parity.max_abs for parity in made.parity.values()) < 1e-3


def test_names_types_and_axes_are_the_contract_s() -> None:
    folder = tiny_lm_onnx()
    contract = read_json(folder / f"io_contract_{TAG}.json")
    assert {k: contract[k] for k in ("variant", "num_layers")} == {
        "variant": "0.6B",
        "num_layers": 2,
    }
    cache = [f"{kind}_{layer}" for layer in range(2) for kind in ("key", "value")]
    present = [f"present_{name}" for name in cache]
    past = [f"past_{name}" for name in cache]
    inputs = {"prefill": ["input_ids", "attention_mask"]}
    inputs["decode"] = inputs["prefill"] + past
    for kind, names in inputs.items():
        assert contract[f"{kind}_path"] == f"{TAG}_{kind}.onnx"
        assert contract[kind]["inputs"] == names
        assert contract[kind]["outputs"] == ["logits", *present]
        session = onnxruntime.InferenceSession(folder / contract[f"{kind}_path"])
        assert [value.name for value in session.get_inputs()] == names
        found = {v.name: (v.type, v.shape) for v in session.get_inputs() + session.get_outputs()}
        new, total = ("T", "T") if kind == "prefill" else ("T_new", "T_total")
        assert found["input_ids"] == ("tensor(int64)", ["B", new])
        assert found["attention_mask"] == ("tensor(int64)", ["B", total])
        assert found["logits"] == ("tensor(float)", ["B", new, "V"])
        assert all(found[n] == ("tensor(float)", ["B", 2, "T_total", 16]) for n in present)
        if kind == "decode":
            assert all(found[n] == ("tensor(float)", ["B", 2, "T_past", 16]) for n in past)


def test_who_knows_the_contract_only_gets_all_logits() -> None:
    folder = tiny_lm_onnx()
    ids = np.arange(6, dtype=np.int64)[None]
    feeds: dict[str, Any] = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    prefill = onnxruntime.InferenceSession(folder / f"{TAG}_prefill.onnx")
    decode = onnxruntime.InferenceSession(folder / f"{TAG}_decode.onnx")
    names = [value.name for value in prefill.get_outputs()]
    whole = dict(zip(names, prefill.run(None, feeds), strict=True))
    assert whole["logits"].shape[:2] == (1, 6)
    first = {name: value[:, :4] for name, value in feeds.items()}
    made = dict(zip(names, prefill.run(None, first), strict=True))
    past = {f"past_{n.removeprefix('present_')}": v for n, v in made.items() if n != "logits"}
    rest = decode.run(None, {"input_ids": ids[:, 4:], "attention_mask": np.ones_like(ids), **past})
    assert np.abs(rest[0] - whole["logits"][:, 4:]).max() < 1e-4
    assert rest[1].shape == (1, 2, 6, 16)


def test_both_graphs_share_one_file_of_weights_and_pass_the_checker() -> None:
    folder = tiny_lm_onnx("int8")
    verify_manifest(folder)
    group = read_json(folder / "manifest.json")["models"][TAG]
    for name, entry in group.items():
        onnx.checker.check_model(str(folder / name))
        assert entry["external_files"] == [f"{TAG}.onnx.data"]
    tokens = folder / f"{TAG}_tokenizer.json"
    assert tokens.read_bytes() == (tiny_lm_torch() / "tokenizer.json").read_bytes()


def test_fewer_bits_take_less_room() -> None:
    sizes = [
        (tiny_lm_onnx(precision) / f"{TAG}.onnx.data").stat().st_size
        for precision in ("fp32", "fp16", "int8")
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert set(LM_PRECISIONS) == {"fp32", "fp16", "int8", "int4"}


def test_eight_bits_are_within_half_a_step() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 256)).astype(np.float32)
    values, scales, zeros = quantised(weight, 8)
    assert zeros is None
    back = (values.astype(np.float32) - 128) * scales[..., None]
    assert np.all(np.abs(back.reshape(weight.shape) - weight) <= scales.max() * 0.501)


def test_four_bits_are_packed_with_their_zero_points() -> None:
    weight = np.random.default_rng(0).uniform(2, 3, (3, 96)).astype(np.float32)
    values, scales, zeros = quantised(weight, 4)
    assert zeros is not None
    assert (values.shape, scales.shape, zeros.shape) == ((3, 3, 16), (3, 3), (3, 2))
    numbers = np.stack([values & 15, values >> 4], axis=-1).reshape(3, 3, 32).astype(np.float32)
    zero = np.stack([zeros & 15, zeros >> 4], axis=-1).reshape(3, 4)[:, :3].astype(np.float32)
    back = ((numbers - zero[..., None]) * scales[..., None]).reshape(weight.shape)
    assert np.abs(back - weight).max() <= scales.max() * 0.51


def test_weights_in_several_files_are_found(tmp_path: Path) -> None:
    model = make_tiny_lm(tmp_path / "torch")
    state = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    for part in range(2):
        names = sorted(state)[part::2]
        save_file({name: state[name] for name in names}, model / f"model-{part}.safetensors")
    exported(tmp_path / "x", model, precision="fp32")
    data = f"{TAG}.onnx.data"
    assert (tmp_path / "x" / data).read_bytes() == (tiny_lm_onnx() / data).read_bytes()


def test_the_contract_says_where_the_codes_are() -> None:
    contract = read_json(tiny_lm_onnx() / f"io_contract_{TAG}.json")
    assert contract["legal_codes"] == CODES
    assert (
        contract["first_code"] + CODES == read_json(tiny_lm_torch() / "config.json")["vocab_size"]
    )


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "llama"}, "'llama': the planner is a qwen3"),
        ({"attention_bias": True}, "attention has biases"),
        ({"vocab_size": 10}, "none that plans music"),
    ],
)
def test_another_model_is_refused_and_leaves_nothing(
    tmp_path: Path, config: dict[str, Any], sentence: str
) -> None:
    model = make_tiny_lm(tmp_path / "torch")
    write_json(model / "config.json", read_json(model / "config.json") | config)
    with pytest.raises(ModelError, match=sentence):
        exported(tmp_path / "x", model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torch"]


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="choose fp32, fp16, int8, int4"):
        exported(tmp_path / "x", precision="int2")
    with pytest.raises(RequestError, match=r"64 wide is none of 0\.6B, 1\.7B, 4B"):
        write_lm(tiny_lm_torch(), tmp_path)
    with pytest.raises(RequestError, match=r"variant is '9B'"):
        write_lm(tiny_lm_torch(), tmp_path, variant="9B")


def test_the_name_of_the_folder_says_which_planner_it_is(tmp_path: Path) -> None:
    model = make_tiny_lm(tmp_path / "acestep-5Hz-lm-1.7B")
    assert export_lm(model, tmp_path / "x").tag == "lm_1p7"
    assert read_json(tmp_path / "x" / "io_contract_lm_1p7.json")["variant"] == "1.7B"
