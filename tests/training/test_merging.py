from __future__ import annotations

import copy
import json
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AceStepPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from luthier.errors import AdapterError, LuthierError, ModelError
from luthier.files import read_json, write_json
from luthier.music.torch.model import load_model, save_model, write_manifest
from luthier.music.training.merge_check import _velocity
from luthier.provenance import trace
from luthier.training.config import TrainConfig, config_from
from luthier.training.lora import load_adapter
from luthier.training.merge import MergeError, MergeReport, merge, plan_merge
from luthier.training.merge_adapters import Weighted, open_adapter
from luthier.training.tensor_file import Slot, read_header, write_tensors
from luthier.training.weights_io import prepare, save_trained
from tiny import tiny_model
from tiny_ace import parts, write_diffusers, write_original
from tiny_checkpoints import checkpoint, tiny_run

Make = Callable[..., TrainConfig]
WEIGHTS = "diffusion_pytorch_model.safetensors"
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"use_rslora": False},
    "rslora": {},
    "dora": {"use_dora": True},
    "lokr": {"adapter": "lokr"},
    "lokr-whole": {"adapter": "lokr", "rank": 16},
    "full": {"adapter": "full"},
}


def adapter_for(transformer: Any, folder: Path, seed: int = 3, **changes: Any) -> Path:
    """An adapter with random matrices, as training saves it; its folder."""
    settings = config_from({"rank": 3, "alpha": 5.0} | changes)
    tuned = copy.deepcopy(transformer)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, value in prepare(tuned, settings):
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    folder.mkdir()
    save_trained(tuned, folder, "tiny", full=settings.adapter == "full")
    return folder


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "adapter", **changes: Any) -> Path:
        return adapter_for(tiny_model().transformer, tmp_path / name, **changes)

    return make


def merged(base: Path, adapter: Path, out: Path, **more: Any) -> MergeReport:
    return merge(base, [Weighted(adapter, more.pop("weight", 1.0))], out, **more)


def pipeline_of(folder: Path) -> Any:
    pipeline = AceStepPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def played(pipeline: Any) -> torch.Tensor:
    return pipeline(
        prompt="calm piano", audio_duration=1.0, num_inference_steps=2, output_type="pt",
        generator=torch.Generator().manual_seed(0),
    ).audios  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", [1.0, -0.5])
def test_merged_computes_what_base_and_adapter_compute(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path], kind: str, weight: float
) -> None:
    adapter = make_adapter(train_mlp=kind == "rslora", **KINDS[kind])
    report = merged(model_dir, adapter, tmp_path / "merged", weight=weight, verify=True)
    assert report.check is not None
    assert report.check.difference <= 1e-5 < 0.01 < report.check.effect
    if kind != "full":
        assert len(report.plan.changed) == (22 if kind == "rslora" else 16)
    after = load_model(tmp_path / "merged").transformer
    assert (_velocity(after) - _velocity(tiny_model().transformer)).abs().max() > 0.01
    if weight == 1.0 and kind != "full":
        tuned = load_model(model_dir).transformer
        load_adapter(tuned, adapter)
        torch.testing.assert_close(_velocity(after), _velocity(tuned.eval()), atol=1e-4, rtol=1e-4)


def test_several_adapters_with_weights(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    chosen = [
        Weighted(make_adapter("a", seed=1), 0.7),
        Weighted(make_adapter("b", seed=2, use_dora=True), 0.4),
        Weighted(make_adapter("c", seed=3, adapter="lokr", train_mlp=True), -1.5),
    ]
    report = merge(model_dir, chosen, tmp_path / "merged", verify=True)
    assert report.check is not None
    assert report.check.difference <= 1e-5
    assert len(report.plan.changed) == 22
    # Not the order: each is relative to the base.
    merge(model_dir, chosen[::-1], tmp_path / "again")
    a, b = (load_file(tmp_path / n / "transformer" / WEIGHTS) for n in ("merged", "again"))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name])
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "| b | DoRA | 3 | 0.4 | 16 |" in card
    record = read_json(tmp_path / "merged" / "run.json")
    assert [row["weight"] for row in record["config"]["adapters"]] == [0.7, 0.4, -1.5]
    assert len(record["inputs"]) == 4


@pytest.mark.parametrize("turbo", [True, False], ids=["turbo", "base"])
@pytest.mark.parametrize("layout", ["diffusers", "original", "original-xl"])
def test_both_layouts_of_ace_step_load_in_diffusers(
    tmp_path: Path, layout: str, turbo: bool
) -> None:
    made = parts(turbo=turbo, xl=layout.endswith("xl"))
    if layout == "diffusers":
        base = write_diffusers(tmp_path / "base", made)
    else:
        base = write_original(tmp_path / "hub", made)
    adapter = adapter_for(made["transformer"], tmp_path / "adapter")
    report = merged(base, adapter, tmp_path / "merged", verify=True)
    assert report.check is not None
    assert report.check.passed
    pipeline = pipeline_of(tmp_path / "merged")
    other = AceStepPipeline(**made)
    other.set_progress_bar_config(disable=True)
    plain = played(other)
    other.load_lora_weights(adapter)
    found, expected = played(pipeline), played(other)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert (found - plain).abs().max() > 0.01
    assert pipeline.transformer.config.is_turbo is turbo


def test_only_the_adapted_weights_change(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter()
    report = merged(model_dir, adapter, tmp_path / "merged")
    before = load_file(model_dir / "transformer" / WEIGHTS)
    after = load_file(tmp_path / "merged" / "transformer" / WEIGHTS)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(report.plan.changed)
    assert report.rounded_away == 0
    for path in model_dir.rglob("*"):
        place = path.relative_to(model_dir)
        if path.is_file() and place.parts[0] != "transformer" and path.name != "manifest.json":
            assert (tmp_path / "merged" / place).read_bytes() == path.read_bytes()


def test_the_result_says_what_it_is(tmp_path: Path) -> None:
    base, adapter = tiny_run() / "model", checkpoint(2)
    out = tmp_path / "calm"
    merged(base, adapter, out, verify=True)
    record = json.loads((out / "run.json").read_text())
    assert (record["stage"], record["artefact"]) == ("merge", "calm")
    assert record["config"]["verify"]["difference"] <= record["config"]["verify"]["allowed"]
    assert record["licences"] == ["CC0-1.0"]
    assert {step.path for step in trace(out)} >= {base, adapter, tiny_run() / "dataset" / "set"}
    card = (out / "README.md").read_text()
    head = card.split("---")[1]
    assert 'base_model: "tiny"' in head
    assert "license: other" in head
    assert 'data_licences: ["CC0-1.0"]' in head
    assert "differs from base + adapter by" in card
    load_model(out)


def test_licence_and_credits_are_handed_on(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(model_dir, base)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# tiny\n")
    adapter, data = make_adapter(), tmp_path / "data"
    data.mkdir()
    card = "## Licences\n\n### Attribution\n\n- Ann Smith, CC-BY-4.0\n\n## Balance\n\n- no credit\n"
    (data / "README.md").write_text(card)
    write_json(adapter / "run.json", {"inputs": [{"path": str(data)}], "licences": ["CC-BY-4.0"]})
    merged(base, adapter, tmp_path / "out")
    told = (tmp_path / "out" / "README.md").read_text()
    assert "license: apache-2.0" in told
    assert "- Ann Smith, CC-BY-4.0" in told
    assert "no credit" not in told


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision(
    tmp_path: Path, make_adapter: Callable[..., Path], kind: torch.dtype
) -> None:
    save_model(tiny_model(), tmp_path / "half", dtype=kind)
    adapter = make_adapter()
    exact = merged(tmp_path / "half", adapter, tmp_path / "exact", verify=True, storage="exact")
    kept = merged(tmp_path / "half", adapter, tmp_path / "kept", verify=True)
    assert exact.check is not None
    assert kept.check is not None
    assert exact.check.difference <= 1e-5 < kept.check.difference <= kept.check.allowed
    types = {
        name: {r.kind for r in read_header(tmp_path / name / "transformer" / WEIGHTS).values()}
        for name in ("exact", "kept")
    }
    assert types == {"exact": {torch.float32, kind}, "kept": {kind}}
    assert kept.size_bytes < exact.size_bytes
    # In float32 and rounded once, not computed in half precision.
    a, b = (load_file(tmp_path / n / "transformer" / WEIGHTS) for n in ("exact", "kept"))
    assert all(torch.equal(a[name].to(kind), value) for name, value in b.items())


def test_an_adapter_that_rounding_swallows_fails_the_check(
    tmp_path: Path, make_adapter: Callable[..., Path]
) -> None:
    save_model(tiny_model(), tmp_path / "half", dtype=torch.bfloat16)
    adapter = make_adapter(alpha=0.003)
    with pytest.raises(MergeError, match=r"rounding.* swallowed most: use --storage exact"):
        merged(tmp_path / "half", adapter, tmp_path / "out", verify=True)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))
    assert merged(tmp_path / "half", adapter, tmp_path / "out").rounded_away == 16
    exact = merged(tmp_path / "half", adapter, tmp_path / "exact", verify=True, storage="exact")
    assert exact.check is not None


def test_sharded_models(tmp_path: Path) -> None:
    made = parts(turbo=True)
    base = write_diffusers(tmp_path / "base", made)
    shutil.rmtree(base / "transformer")
    made["transformer"].save_pretrained(base / "transformer", max_shard_size="60KB")
    (base / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"stale")
    (base / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"stale")
    adapter = adapter_for(made["transformer"], tmp_path / "adapter")
    report = merged(base, adapter, tmp_path / "out", verify=True, storage="exact")
    shards = sorted((tmp_path / "out" / "transformer").glob("*.safetensors"))
    assert len(shards) > 1
    assert [p.name for p in shards] == [s.name for s in report.plan.shards]
    index = read_json(tmp_path / "out" / "transformer" / f"{WEIGHTS}.index.json")
    tensors = {name: path for path in shards for name in load_file(path)}
    assert index["weight_map"] == {name: path.name for name, path in tensors.items()}
    sizes = [t.numel() * t.element_size() for p in shards for t in load_file(p).values()]
    assert index["metadata"]["total_size"] == sum(sizes)
    assert not list((tmp_path / "out" / "transformer").glob("*.bin"))
    pipeline_of(tmp_path / "out")
    shards[0].unlink()
    with pytest.raises(ModelError, match=r"00001-of-.* is missing"):
        merged(tmp_path / "out", adapter, tmp_path / "again")


def test_an_adapter_with_the_original_layouts_names(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter()
    merged(model_dir, adapter, tmp_path / "native")
    names = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out.0": "o_proj"}

    def original(name: str) -> str:
        for new, old in names.items():
            name = name.replace(f".{new}.", f".{old}.")
        return name

    path = adapter / "adapter_model.safetensors"
    save_file({original(k): v for k, v in load_file(path).items()}, path)
    config = read_json(adapter / "adapter_config.json")
    write_json(adapter / "adapter_config.json", config | {"target_modules": list(names.values())})
    report = merged(model_dir, adapter, tmp_path / "foreign", verify=True)
    assert report.check is not None
    a, b = (load_file(tmp_path / n / "transformer" / WEIGHTS) for n in ("native", "foreign"))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_alpha_and_rank_patterns(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter(use_rslora=False)
    path = adapter / "adapter_config.json"
    config = read_json(path)
    write_json(path, config | {"alpha_pattern": {"cross_attn.to_q": 1.5}})
    factors = {name: c.factor for name, c in open_adapter(Weighted(adapter, 2)).changes.items()}
    assert factors["layers.0.cross_attn.to_q.weight"] == 1.0
    assert factors["layers.0.self_attn.to_q.weight"] == pytest.approx(10 / 3)
    report = merged(model_dir, adapter, tmp_path / "merged", verify=True)
    assert report.check is not None
    write_json(path, config | {"rank_pattern": {"cross_attn.to_q": 2}})
    with pytest.raises(AdapterError, match=r"lora_A \(3, 32\).*says rank 2"):
        open_adapter(Weighted(adapter))


def test_exit_codes(tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]) -> None:
    adapter, out = make_adapter(), tmp_path / "out"
    base = tmp_path / "base"
    shutil.copytree(model_dir, base)
    for kind, code, said, arguments in [
        (LuthierError, 1, "does not exist", (tmp_path / "none", adapter, out)),
        (ModelError, 1, "is not a music model", (adapter, adapter, out)),
        (AdapterError, 2, "does not exist", (model_dir, tmp_path / "none", out)),
        (AdapterError, 2, "is not an adapter", (model_dir, model_dir / "vae", out)),
        (AdapterError, 2, "training run: name one", (model_dir, tiny_run() / "logs", out)),
        (MergeError, 3, "which is read", (base, adapter, base)),
        (MergeError, 3, "which is read", (base, adapter, base / "sub" / "out")),
        (MergeError, 3, "which is read", (model_dir, adapter, adapter)),
        (MergeError, 3, "which is read", (model_dir, adapter, adapter.parent)),
        (MergeError, 3, "is a file, but", (model_dir, adapter, adapter.parent / "file" / "x")),
    ]:
        (tmp_path / "file").write_text("x")
        with pytest.raises(kind, match=said) as caught:
            merged(*arguments)
        assert caught.value.exit_code == code
        assert not out.exists()
    load_model(base)  # still whole


def test_adapters_that_do_not_fit(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter, out = make_adapter(), tmp_path / "out"
    config = read_json(adapter / "adapter_config.json")
    weights = load_file(adapter / "adapter_model.safetensors")
    name = "base_model.model.layers.0.self_attn.to_q.lora_A.weight"

    def refused(said: str, changes: dict[str, torch.Tensor], without: str = "") -> None:
        kept = {k: v for k, v in weights.items() if k != without}
        save_file(kept | changes, adapter / "adapter_model.safetensors")
        with pytest.raises(AdapterError, match=said):
            merged(model_dir, adapter, out)

    refused(r"another model.*to_q\.weight of shape \(32, 33\) has .*32, 32\)\.", {name: one(3, 33)})
    refused("do not go together", {}, without=name)
    refused("do not go together", {name: one(2, 32)})
    refused("also holds .*bias", {name.replace("weight", "bias"): one(3)})
    refused("no numbers", {name: torch.full_like(weights[name], torch.inf)})
    refused("no numbers", {name: torch.full_like(weights[name], torch.nan)})
    wide = {k: one(3, 40) if "lora_A" in k else v for k, v in weights.items()}
    refused(r"made for another model than .*, and 13 more\.$", wide)
    refused("holds no matrices", {}) if not weights else None
    save_file(weights, adapter / "adapter_model.safetensors")
    for change, said in [
        ({"r": None}, "r is missing"),
        ({"lora_alpha": None}, "lora_alpha is missing"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"use_dora": True}, "do not go together"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base weights"),
        ({"peft_type": "LOHA"}, "peft_type is LOHA"),
    ]:
        write_json(adapter / "adapter_config.json", config | change)
        with pytest.raises(AdapterError, match=said):
            merged(model_dir, adapter, out)
    write_json(adapter / "adapter_config.json", config)
    with pytest.raises(AdapterError, match="must be a finite number"):
        merged(model_dir, adapter, out, weight=float("nan"))
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AdapterError, match="damaged"):
        merged(model_dir, adapter, out)
    path.unlink()
    with pytest.raises(AdapterError, match="is missing"):
        merged(model_dir, adapter, out)
    assert not out.exists()


def one(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


def test_a_torn_checkpoint_is_refused(tmp_path: Path) -> None:
    torn = tmp_path / "epoch=0-step=9_lora"
    shutil.copytree(checkpoint(1), torn)
    path = torn / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(AdapterError, match=r"is torn: .*sha256"):
        merged(tiny_run() / "model", torn, tmp_path / "out")


def test_an_adapter_of_other_weights_is_noted(tmp_path: Path, model_dir: Path) -> None:
    own = plan_merge(tiny_run() / "model", [Weighted(checkpoint(1))], tmp_path / "out")
    assert own.notes == ()
    save_model(tiny_model(seed=1), tmp_path / "other")
    plan = plan_merge(tmp_path / "other", [Weighted(checkpoint(1))], tmp_path / "out")
    assert "was trained on other weights (tiny)" in plan.notes[0]


def test_what_is_there_is_not_replaced(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(MergeError, match="exists and is not empty: choose another folder"):
            merged(model_dir, adapter, tmp_path / "photos", overwrite=overwrite)
    assert (tmp_path / "photos" / "one.jpg").read_text() == "x"
    (tmp_path / "out").mkdir()
    merged(model_dir, adapter, tmp_path / "out")
    with pytest.raises(MergeError, match="or --overwrite it"):
        merged(model_dir, adapter, tmp_path / "out")
    merged(model_dir, adapter, tmp_path / "out", overwrite=True, storage="exact")


def test_a_damaged_base_is_refused(
    tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]
) -> None:
    base, adapter = tmp_path / "base", make_adapter()
    shutil.copytree(model_dir, base)
    path = base / "transformer" / WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="damaged"):
        merged(base, adapter, tmp_path / "out")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match="corrupted"):
        merged(base, adapter, tmp_path / "out")
    weights = load_file(model_dir / "transformer" / WEIGHTS)
    weights["norm_out.weight"][0] = torch.nan
    save_file(weights, path)
    write_manifest(base)
    with pytest.raises(ModelError, match=r"no numbers \(NaN or infinite\) in norm_out.weight"):
        merged(base, adapter, tmp_path / "out")
    path.unlink()
    with pytest.raises(ModelError, match="no weights in safetensors"):
        merged(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_half_precision_cannot_hold(tmp_path: Path, make_adapter: Callable[..., Path]) -> None:
    save_model(tiny_model(), tmp_path / "half", dtype=torch.float16)
    with pytest.raises(MergeError, match="too large for F16"):
        merged(tmp_path / "half", make_adapter(), tmp_path / "out", weight=1e7)
    assert not (tmp_path / "out").exists()


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk(tmp_path: Path, model_dir: Path, make_adapter: Callable[..., Path]) -> None:
    adapter = make_adapter()
    with files_up_to(50_000), pytest.raises(MergeError, match="merging failed: a file-size limit"):
        merged(model_dir, adapter, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """60 layers of 2 MB each in two shards: merging needs some layers' worth, not the model's."""
    width, layers = 1024, 60
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    (base / "transformer").mkdir(parents=True)
    adapter.mkdir()
    write_json(base / "model_index.json", {"_class_name": "AceStepPipeline"})
    tensors = {
        f"layers.{i}.to_q.weight": torch.randn(width, width).bfloat16() for i in range(layers)
    }
    save_file(tensors, base / "transformer" / WEIGHTS)
    matrices = {}
    for name in tensors:
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        matrices[f"{stem}.lora_A.weight"] = torch.randn(4, width)
        matrices[f"{stem}.lora_B.weight"] = torch.randn(width, 4)
    save_file(matrices, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["to_q"]}
    write_json(adapter / "adapter_config.json", config)
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from luthier.training.merge import merge, Weighted, plan_merge\n"
        "base, adapter, out = map(Path, sys.argv[1:])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "report = merge(base, [Weighted(adapter)], out)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(len(report.plan.changed), (after - before) * 1024)\n"
    )
    words = [sys.executable, "-c", program, str(base), str(adapter), str(tmp_path / "out")]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    assert told[0] == str(layers)
    model = layers * 2 * width**2
    assert int(told[1]) < 0.5 * model


def test_writing_a_tensor_file(tmp_path: Path) -> None:
    tensors = {
        "b": torch.arange(6, dtype=torch.float16).reshape(2, 3),
        "a": torch.arange(4, dtype=torch.int64),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
    }
    source, target = tmp_path / "source.safetensors", tmp_path / "target.safetensors"
    save_file(tensors, source)
    slots = [Slot(n, "F32" if r.kind else r.dtype, r) for n, r in read_header(source).items()]
    slots.append(Slot("new", "BF16", torch.ones(2, 2)))
    size = write_tensors(target, slots, lambda slot, value: value + 1)
    found = load_file(target)
    assert found["b"].dtype == torch.float32
    assert torch.equal(found["b"], tensors["b"].float() + 1)
    assert torch.equal(found["a"], tensors["a"])
    assert found["scalar"] == 4.0
    assert found["empty"].shape == (0, 4)
    assert torch.equal(found["new"], torch.full((2, 2), 2.0, dtype=torch.bfloat16))
    assert size == 6 * 4 + 4 * 8 + 4 + 4 * 2
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    (length,) = struct.unpack("<Q", target.read_bytes()[:8])
    assert (8 + length) % 8 == 0
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged"):
        read_header(target)
