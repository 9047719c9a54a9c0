from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from luthier.errors import ModelError
from luthier.music.model import load_model, save_model, write_manifest
from luthier.provenance import trace
from luthier.training.config import TrainConfig
from luthier.training.lora import AdapterError, add_adapter, save_adapter
from luthier.training.merge import MergeError, merge, read_updates
from luthier.training.merge_check import _velocity
from luthier.training.tensor_file import read_header, rewrite
from tiny import tiny_model

Make = Callable[..., TrainConfig]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def make_adapter(tmp_path: Path, config: Make) -> Callable[..., Path]:
    """An adapter with random matrices; its folder."""

    def make(name: str = "adapter", seed: int = 0, **changes: object) -> Path:
        transformer = tiny_model().transformer
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for _, value in add_adapter(transformer, config(**changes)):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
        (tmp_path / name).mkdir()
        save_adapter(transformer, tmp_path / name, "tiny")
        return tmp_path / name

    return make


@pytest.mark.parametrize("use_rslora", [True, False])
@pytest.mark.parametrize("train_mlp", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_merged_computes_what_base_and_adapter_compute(
    tmp_path: Path,
    model_dir: Path,
    make_adapter: Callable[..., Path],
    use_rslora: bool,
    train_mlp: bool,
    scale: float,
) -> None:
    adapter = make_adapter(use_rslora=use_rslora, train_mlp=train_mlp, rank=3, alpha=5.0)
    report = merge(model_dir, adapter, tmp_path / "merged", scale=scale, verify=True)
    assert report.scaling == pytest.approx(scale * 5 / (3**0.5 if use_rslora else 3))
    assert report.merged_tensors == (22 if train_mlp else 16)
    assert report.max_abs_difference is not None
    assert report.max_abs_difference <= 1e-5
    merged, base = load_model(tmp_path / "merged"), load_model(model_dir)
    assert (_velocity(merged.transformer) - _velocity(base.transformer)).abs().max() > 0.01


def test_only_the_adapted_weights_change(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter()
    merge(model_dir, adapter, tmp_path / "merged")
    updates = read_updates(adapter)
    before = load_file(model_dir / "transformer" / WEIGHTS)
    after = load_file(tmp_path / "merged" / "transformer" / WEIGHTS)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(updates)
    for path in model_dir.rglob("*"):
        place = path.relative_to(model_dir)
        if path.is_file() and place.parts[0] != "transformer" and path.name != "manifest.json":
            assert (tmp_path / "merged" / place).read_bytes() == path.read_bytes()


def test_the_result_says_what_it_is(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter()
    merge(model_dir, adapter, tmp_path / "calm")
    record = json.loads((tmp_path / "calm" / "run.json").read_text())
    assert (record["stage"], record["artefact"]) == ("merge", "calm")
    assert {s.path for s in trace(tmp_path / "calm")} >= {model_dir, adapter}
    card = (tmp_path / "calm" / "README.md").read_text()
    assert "# calm" in card
    assert "`adapter`" in card
    merge(model_dir, adapter, tmp_path / "calm")  # a model of ours may be replaced


def test_half_precision(tmp_path: Path, make_adapter: Callable[..., Path]) -> None:
    save_model(tiny_model(), tmp_path / "half", dtype=torch.bfloat16)
    adapter = make_adapter()
    exact = merge(tmp_path / "half", adapter, tmp_path / "exact", verify=True)
    assert exact.max_abs_difference is not None
    assert exact.max_abs_difference <= exact.tolerance == 1e-5
    rounded = merge(tmp_path / "half", adapter, tmp_path / "rounded", verify=True, storage="base")
    assert rounded.max_abs_difference is not None
    assert 1e-5 < rounded.max_abs_difference <= rounded.tolerance
    kinds = {
        name: {r["dtype"] for r in read_header(tmp_path / name / "transformer" / WEIGHTS).values()}
        for name in ("exact", "rounded")
    }
    assert kinds == {"exact": {"F32", "BF16"}, "rounded": {"BF16"}}
    assert rounded.size_bytes < exact.size_bytes


def test_a_sharded_model(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    sharded = tmp_path / "sharded"
    shutil.copytree(model_dir, sharded)
    model = load_model(model_dir)
    (sharded / "transformer" / WEIGHTS).unlink()
    model.transformer.to(torch.float16).save_pretrained(
        sharded / "transformer", max_shard_size="60KB"
    )
    write_manifest(sharded)
    shards = sorted((sharded / "transformer").glob("*.safetensors"))
    assert len(shards) > 1
    report = merge(sharded, make_adapter(), tmp_path / "merged", verify=True)
    assert report.merged_tensors == 16
    index = json.loads(next((tmp_path / "merged" / "transformer").glob("*.index.json")).read_text())
    sizes = [
        tensor.numel() * tensor.element_size()
        for shard in (tmp_path / "merged" / "transformer").glob("*.safetensors")
        for tensor in load_file(shard).values()
    ]
    assert index["metadata"]["total_size"] == sum(sizes)


def test_exit_codes_are_the_seeds(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter, out = make_adapter(), tmp_path / "out"
    for error, code, arguments in [
        (ModelError, 1, (tmp_path / "none", adapter, out)),
        (AdapterError, 2, (model_dir, tmp_path / "none", out)),
        (AdapterError, 2, (model_dir, model_dir, out)),
        (MergeError, 3, (model_dir, adapter, model_dir)),
        (MergeError, 3, (model_dir, adapter, adapter)),
        (MergeError, 3, (model_dir, adapter, model_dir / "luthier.json" / "x")),
    ]:
        with pytest.raises(error) as caught:
            merge(*arguments)
        assert caught.value.exit_code == code
        assert not out.exists()
    load_model(model_dir)  # still whole


def test_adapters_that_do_not_fit(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter()
    config = json.loads((adapter / "adapter_config.json").read_text())
    weights = load_file(adapter / "adapter_model.safetensors")
    name = "base_model.model.layers.0.self_attn.to_q.lora_A.weight"

    def with_weights(changes: dict[str, torch.Tensor], without: str = "") -> None:
        kept = {k: v for k, v in weights.items() if k != without}
        save_file(kept | changes, adapter / "adapter_model.safetensors")

    with_weights({name: torch.zeros(4, 33)})
    with pytest.raises(AdapterError, match=r"another model.*to_q\.weight of shape \(32, 33\)"):
        merge(model_dir, adapter, tmp_path / "out")
    with_weights({}, without=name)
    with pytest.raises(AdapterError, match="also holds"):
        merge(model_dir, adapter, tmp_path / "out")
    with_weights({name.replace("layers.0", "layers.9"): weights[name].clone()})
    with pytest.raises(AdapterError, match="do not go together"):
        merge(model_dir, adapter, tmp_path / "out")
    with_weights({name: torch.full_like(weights[name], torch.inf)})
    with pytest.raises(AdapterError, match="no numbers"):
        merge(model_dir, adapter, tmp_path / "out")
    with_weights({})
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(AdapterError, match="DoRA"):
        merge(model_dir, adapter, tmp_path / "out")


def test_alpha_and_rank_patterns(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter(use_rslora=False)
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"alpha_pattern": {"cross_attn.to_q": 2.0}}))
    factors = {name: update.factor for name, update in read_updates(adapter).items()}
    assert factors["layers.0.cross_attn.to_q.weight"] == 0.5
    assert factors["layers.0.self_attn.to_q.weight"] == 2.0
    report = merge(model_dir, adapter, tmp_path / "merged", verify=True)
    assert report.max_abs_difference is not None


def test_other_folders_are_not_replaced(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    with pytest.raises(MergeError, match="holds other files"):
        merge(model_dir, make_adapter(), tmp_path / "photos")
    assert (tmp_path / "photos" / "one.jpg").read_text() == "x"


def test_a_damaged_base_is_refused(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(model_dir, base)
    path = base / "transformer" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="corrupted"):
        merge(base, make_adapter(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rewriting_a_tensor_file(tmp_path: Path) -> None:
    tensors = {
        "b": torch.arange(6, dtype=torch.float16).reshape(2, 3),
        "a": torch.arange(4, dtype=torch.int64),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
    }
    source, target = tmp_path / "source.safetensors", tmp_path / "target.safetensors"
    save_file(tensors, source)
    size = rewrite(source, target, lambda name, t: t + 1, lambda name, kind: torch.float32)
    found = load_file(target)
    assert found["b"].dtype == torch.float32
    assert torch.equal(found["b"], tensors["b"].float() + 1)
    assert torch.equal(found["a"], tensors["a"])
    assert found["scalar"] == 4.0
    assert found["empty"].shape == (0, 4)
    assert size == 6 * 4 + 4 * 8 + 4
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    (length,) = struct.unpack("<Q", target.read_bytes()[:8])
    assert (8 + length) % 8 == 0
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged"):
        read_header(target)
