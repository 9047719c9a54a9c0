"""The denoiser's attention, rewritten, says what it said, in memory that grows with the length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import AceStepTransformer1DModel
from numpy.typing import NDArray
from torch import nn

from luthier.export.graph_file import skeleton
from luthier.export.graph_writer import write_graph
from luthier.export.lowering import Lowered
from luthier.export.precision import Precision
from luthier.export.weights import ModuleWeights
from luthier.music.export.passes.select import optimise
from luthier.music.torch.export_modules import DitDecoder
from luthier.music.torch.graphs import Graph

Array = NDArray[np.float32]
CHANNELS, WIDTH, PATCH, WINDOW = 8, 32, 2, 8
_AXES = {
    "hidden_states": "B T",
    "timestep": "B",
    "timestep_r": "B",
    "attention_mask": "B T",
    "encoder_hidden_states": "B T_enc",
    "encoder_attention_mask": "B T_enc",
    "context_latents": "B T",
}


def _denoiser(kv_heads: int = 2, width: int = 8, layers: int = 2) -> AceStepTransformer1DModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AceStepTransformer1DModel(
            hidden_size=WIDTH,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            head_dim=width,
            sliding_window=WINDOW,
            num_hidden_layers=layers,
            in_channels=3 * CHANNELS,
            audio_acoustic_hidden_dim=CHANNELS,
            encoder_hidden_size=WIDTH,
        ).eval()
        for name, weight in model.named_parameters():
            if "to_q" in name or "to_k" in name or "norm_q" in name:
                nn.init.normal_(weight, std=1.5)  # so that some keys matter far more than others
    return model


def _inputs(tokens: int, batch: int = 1, conditions: int = 7, *, padded: bool = False) -> Any:
    """Random inputs; when padded the last item ends early, and so do its conditions."""
    draw = np.random.default_rng(tokens)
    frames = tokens * PATCH
    made = {
        "hidden_states": draw.standard_normal((batch, frames, CHANNELS)),
        "timestep": np.linspace(0.9, 0.3, batch),
        "timestep_r": np.linspace(0.9, 0.3, batch),
        "attention_mask": np.ones((batch, frames)),
        "encoder_hidden_states": draw.standard_normal((batch, conditions, WIDTH)),
        "encoder_attention_mask": np.ones((batch, conditions)),
        "context_latents": draw.standard_normal((batch, frames, 2 * CHANNELS)),
    }
    if padded:
        made["attention_mask"][-1, _kept(frames) :] = 0
        made["encoder_attention_mask"][-1, conditions // 2 :] = 0
    return {name: values.astype(np.float32) for name, values in made.items()}


def _kept(frames: int) -> int:
    """Frames of a padded item that are none of the padding."""
    return max(frames // 3 // PATCH, 1) * PATCH


def _graph(model: AceStepTransformer1DModel) -> Graph:
    axes = {name: dict(enumerate(text.split())) for name, text in (_AXES | {"vt": "B T"}).items()}
    inputs = {name: torch.from_numpy(x) for name, x in _inputs(15, 2, padded=True).items()}
    return Graph("dit_decoder", DitDecoder(model).eval(), inputs, ("vt",), axes)


class Pair:
    """A graph as it was exported and as it is rewritten, both written to files."""

    def __init__(
        self,
        folder: Path,
        model: AceStepTransformer1DModel | None = None,
        precision: Precision = "fp32",
        opset: int = 18,
    ) -> None:
        graph = _graph(model or _denoiser())
        self.plain = skeleton(graph, opset)
        self.made = optimise(self.plain, "dit_decoder")
        self.files = (folder / "plain.onnx", folder / "made.onnx")
        for proto, path in zip((self.plain, self.made), self.files, strict=True):
            written = onnx.ModelProto()
            written.CopyFrom(proto)
            write_graph(written, ModuleWeights(graph.module), path, Lowered(precision))
        self._sessions = [_opened(path) for path in self.files]

    def outputs(self, inputs: dict[str, Array]) -> tuple[Array, Array]:
        plain, made = (session.run(None, inputs)[0] for session in self._sessions)
        return plain, made

    def difference(self, inputs: dict[str, Array]) -> float:
        """Root mean square, where nothing is padding."""
        plain, made = self.outputs(inputs)
        assert made.shape == plain.shape
        assert np.isfinite(made).all()
        kept = inputs["attention_mask"] > 0
        return float(np.sqrt(np.square(plain[kept] - made[kept]).mean()))


def _opened(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("denoiser"))


@pytest.mark.parametrize("tokens", [1, 2, 9, 128, 255, 256, 257, 300, 384, 385])
def test_it_computes_what_the_plain_graph_computes(pair: Pair, tokens: int) -> None:
    assert pair.difference(_inputs(tokens)) < 1e-5


@pytest.mark.parametrize("tokens", [3, 130, 300])
@pytest.mark.parametrize("batch", [2, 3])
def test_padding_of_a_batch_counts_for_nothing(pair: Pair, tokens: int, batch: int) -> None:
    inputs = _inputs(tokens, batch, padded=True)
    assert pair.difference(inputs) < 1e-5
    other = {name: values.copy() for name, values in inputs.items()}
    other["hidden_states"][-1, _kept(tokens * PATCH) :] = 100.0
    other["encoder_hidden_states"][-1, 3:] = -100.0
    kept = inputs["attention_mask"] > 0
    before, after = pair.outputs(inputs)[1], pair.outputs(other)[1]
    np.testing.assert_allclose(after[kept], before[kept], atol=1e-5)


def test_masks_are_used(pair: Pair) -> None:
    inputs = _inputs(40)
    whole = pair.outputs(inputs)[1]
    for name in ("attention_mask", "encoder_attention_mask"):
        masked = {key: values.copy() for key, values in inputs.items()}
        masked[name][:, -2:] = 0
        assert np.abs(pair.outputs(masked)[1] - whole)[:, :-4].max() > 1e-3, name


@pytest.mark.parametrize("conditions", [1, 2, 40])
def test_any_number_of_conditions(pair: Pair, conditions: int) -> None:
    assert pair.difference(_inputs(20, 2, conditions, padded=conditions > 1)) < 1e-5


@pytest.mark.parametrize(("kv_heads", "width"), [(4, 8), (1, 8), (2, 12), (2, 6)])
def test_other_heads(tmp_path: Path, kv_heads: int, width: int) -> None:
    made = Pair(tmp_path, _denoiser(kv_heads, width))
    assert not _kinds(made.made) & {"Softmax"}
    assert made.difference(_inputs(200, 2, padded=True)) < 1e-5


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_in_every_precision(tmp_path: Path, precision: Precision) -> None:
    made = Pair(tmp_path, precision=precision, opset=21 if precision == "int4" else 18)
    # An 8-bit activation may round the other way: that is a step of its scale.
    assert made.difference(_inputs(150)) < (1e-5 if precision == "fp16" else 2e-2)
    sizes = [path.stat().st_size for path in made.files]
    assert sizes[1] < sizes[0] + 20_000
    domains = [entry.domain for entry in onnx.load(made.files[1]).opset_import]
    assert sorted(domains) == ["", "com.microsoft"]


@pytest.mark.parametrize("opset", [17, 19, 21])
def test_other_opsets(tmp_path: Path, opset: int) -> None:
    made = Pair(tmp_path, opset=opset)
    assert {o.domain: o.version for o in made.made.opset_import} == {"": opset, "com.microsoft": 1}
    assert made.difference(_inputs(140)) < 1e-5


def test_names_types_and_axes_stay(pair: Pair) -> None:
    plain, made = (onnx.load(path) for path in pair.files)
    assert list(made.graph.input) == list(plain.graph.input)
    assert list(made.graph.output) == list(plain.graph.output)
    onnx.checker.check_model(made)


def test_no_scores_of_all_with_all_are_left(pair: Pair) -> None:
    kinds = [node.op_type for node in pair.made.graph.node]
    assert "Softmax" not in kinds
    assert kinds.count("If") == 3  # two layers look at conditions, one at all
    assert kinds.count("Scan") == 1
    assert kinds.count("RotaryEmbedding") == 4  # of queries and keys


def test_the_graph_that_was_given_is_left_alone() -> None:
    plain = skeleton(_graph(_denoiser()))
    before = plain.SerializeToString(deterministic=True)
    optimise(plain, "dit_decoder")
    assert plain.SerializeToString(deterministic=True) == before


def test_what_it_does_not_know_comes_back_as_it_is() -> None:
    class Other(nn.Module):
        """Attention that adds a value for each query."""

        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            q = self.part(x).unflatten(-1, (2, 4)).transpose(1, 2)
            weights = torch.softmax(q @ q.transpose(2, 3) + bias[:, None, :, None], dim=-1)
            return (weights @ q).transpose(1, 2).flatten(2)

    inputs = {"x": torch.randn(2, 5, 8), "bias": torch.randn(2, 5)}
    axes = {name: {0: "B", 1: "T"} for name in ("x", "bias", "vt")}
    proto = skeleton(Graph("dit_decoder", Other().eval(), inputs, ("vt",), axes))
    assert "Softmax" in _kinds(proto)
    assert optimise(proto, "dit_decoder") is proto


def _kinds(proto: Any) -> set[str]:
    return {node.op_type for node in proto.graph.node}


_PEAK = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.enable_cpu_mem_arena = False
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, dict(numpy.load(sys.argv[2])))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc here")
def test_memory_grows_with_the_length_not_its_square(pair: Pair, tmp_path: Path) -> None:
    def peak(path: Path, tokens: int) -> float:
        inputs = tmp_path / f"{tokens}.npz"
        np.savez(inputs, **_inputs(tokens))
        words = [sys.executable, "-c", _PEAK, str(path), str(inputs)]
        return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    plain, made = (
        [peak(path, tokens) - peak(path, 10) for tokens in (1000, 4000)] for path in pair.files
    )
    assert plain[1] / plain[0] > 8  # sixteen times the scores
    assert made[1] < 6 * max(made[0], 4000)  # kilobytes; a little is noise
    assert made[1] < plain[1] / 5
