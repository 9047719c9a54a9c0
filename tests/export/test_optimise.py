"""Graphs of Oobleck, rewritten, say what they said, at every length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import AutoencoderOobleck
from numpy.typing import NDArray
from torch import nn

from luthier.export.graph_file import skeleton
from luthier.export.graph_writer import write_graph
from luthier.export.lowering import Lowered
from luthier.export.passes.values import names_read
from luthier.export.precision import Precision
from luthier.export.weights import ModuleWeights
from luthier.music.export.passes.minimal_filter import OUTPUTS, POINTS, TAPS, minimal_filter
from luthier.music.export.passes.select import optimise
from luthier.music.torch.export_modules import VaeDecoder, VaeEncoder
from luthier.music.torch.graphs import Graph
from luthier.music.torch.oobleck import Oobleck, without_weight_norm

Array = NDArray[np.float32]
CHANNELS, HOP = 8, 128
CLOSE = 55  # dB: snake is a polynomial that is wrong by 1e-4


def _oobleck(ratios: tuple[int, ...] = (2, 4, 4, 4), seed: int = 0) -> Oobleck:
    """A tiny one whose snakes all differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = Oobleck(
            encoder_hidden_size=2 * CHANNELS,
            downsampling_ratios=list(ratios),
            channel_multiples=[1, 1, 2, 2][: len(ratios)],
            decoder_channels=8,
            decoder_input_channels=CHANNELS,
            sampling_rate=6400,
        ).eval()
        for name, parameter in vae.named_parameters():
            if name.endswith((".alpha", ".beta")):
                nn.init.normal_(parameter, std=0.3)
    without_weight_norm(vae)
    return vae


def _graph(name: str, vae: Oobleck) -> Graph:
    decodes = name == "vae_decoder"
    module = VaeDecoder(vae) if decodes else VaeEncoder(vae)
    source, result = ("latents", "audio") if decodes else ("audio", "latents")
    shape = (2, CHANNELS, 5) if decodes else (2, 2, 5 * HOP)
    axes = {"latents": {0: "B", 2: "T"}, "audio": {0: "B", 2: "samples"}}
    return Graph(name, module.eval(), {source: torch.randn(shape)}, (result,), axes)


class Pair:
    """A graph as it was exported and as it is rewritten, both written to files."""

    def __init__(
        self,
        folder: Path,
        name: str,
        vae: Oobleck | None = None,
        precision: Precision = "fp32",
        *,
        folded: bool = False,
    ) -> None:
        self.name, graph = name, _graph(name, vae or _oobleck())
        self.plain = skeleton(graph)
        self.fast = optimise(self.plain, name)
        self.files = (folder / "plain.onnx", folder / "fast.onnx")
        for proto, path in zip((self.plain, self.fast), self.files, strict=True):
            written = onnx.ModelProto()
            written.CopyFrom(proto)
            plan = Lowered(precision, folded=folded)
            write_graph(written, ModuleWeights(graph.module), path, plan)
        self._sessions = [_opened(path) for path in self.files]

    def snr(self, x: Array) -> float:
        """Decibels by which the difference is below what the plain graph makes of x."""
        wanted, got = self.outputs(x)
        assert got.shape == wanted.shape
        return _snr(wanted, got)

    def outputs(self, x: Array) -> tuple[Array, Array]:
        plain, fast = (s.run(None, {s.get_inputs()[0].name: x})[0] for s in self._sessions)
        return plain, fast


def _opened(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=["vae_decoder", "vae_encoder"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp(request.param), request.param)


def _input(name: str, batch: int, frames: int, extra: int = 0) -> Array:
    shape = (batch, CHANNELS, frames) if name == "vae_decoder" else (batch, 2, frames * HOP + extra)
    return np.random.default_rng(frames).standard_normal(shape).astype(np.float32)


def _snr(wanted: Array, got: Array) -> float:
    error = np.square(wanted.astype(np.float64) - got).sum()
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / error))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 7, 20, 33])
def test_it_computes_what_the_plain_graph_computes(pair: Pair, batch: int, frames: int) -> None:
    assert pair.snr(_input(pair.name, batch, frames)) > CLOSE


def test_audio_needs_not_fill_whole_frames(tmp_path: Path) -> None:
    encoder = Pair(tmp_path, "vae_encoder")
    for extra in (1, 63, 127):
        assert encoder.snr(_input("vae_encoder", 1, 9, extra)) > CLOSE


@pytest.mark.parametrize("ratios", [(3, 5), (2,), (6, 10)])
def test_odd_and_large_strides_are_as_long_as_before(
    tmp_path: Path, ratios: tuple[int, ...]
) -> None:
    made = Pair(tmp_path, "vae_decoder", _oobleck(ratios))
    assert made.snr(_input("vae_decoder", 1, 11)) > CLOSE


def test_a_long_input_is_cut_into_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.music.export.passes.residual._CHUNK", 2048)
    made = Pair(tmp_path, "vae_decoder")
    for frames in (16, 23):
        assert made.snr(_input("vae_decoder", 2, frames)) > CLOSE


@pytest.mark.parametrize("ratios", [(2, 4, 4, 4), (4, 6), (2, 3)])
def test_the_last_layers_are_computed_in_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratios: tuple[int, ...]
) -> None:
    monkeypatch.setattr("luthier.music.export.passes.stretches._STRETCH", 2**11)
    monkeypatch.setattr("luthier.music.export.passes.stretches._WASTE", 100)
    vae = _oobleck(ratios)
    longer = Pair(tmp_path, "vae_decoder", vae)
    for frames in (1, 2, 23, 40):
        assert longer.snr(_input("vae_decoder", 2, frames)) > CLOSE
    tops = [node.op_type for node in onnx.load(longer.files[1]).graph.node]
    assert tops[-3:] == ["Slice", "Concat", "Transpose"]


def test_what_odd_strides_make_is_not_cut_into_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They make one sample less than their stride for each frame: stretches would not fit together.
    monkeypatch.setattr("luthier.music.export.passes.stretches._STRETCH", 2**11)
    monkeypatch.setattr("luthier.music.export.passes.stretches._WASTE", 100)
    made = Pair(tmp_path, "vae_decoder", _oobleck((3, 5)))
    assert made.snr(_input("vae_decoder", 1, 23)) > CLOSE


@pytest.mark.parametrize("name", ["vae_decoder", "vae_encoder"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_filters_are_transformed_when_the_graph_is_written(
    tmp_path: Path, name: str, precision: Precision
) -> None:
    made = Pair(tmp_path, name, precision=precision, folded=True)
    assert made.snr(_input(name, 1, 12)) > CLOSE - 6
    graph = onnx.load(made.files[1]).graph
    known = {tensor.name for tensor in graph.initializer}
    read = {name for node in graph.node for name in names_read(node)}
    assert known <= read
    constant = {node.op_type for node in graph.node if set(node.input) - {""} <= known}
    assert constant <= {"Cast", "Reshape"}  # of halves, and of whole numbers
    spread = [tuple(tensor.dims) for tensor in graph.initializer if tensor.dims[:1] == [POINTS]]
    assert any(len(shape) == 3 for shape in spread)


def test_silence_stays_what_it_was(pair: Pair) -> None:
    wanted, got = pair.outputs(0 * _input(pair.name, 1, 6))
    np.testing.assert_allclose(got, wanted, atol=1e-3)


def test_loud_input_has_its_phase(pair: Pair) -> None:
    # A large argument of the sine has few digits left for its phase, in both graphs.
    assert pair.snr(30 * _input(pair.name, 1, 6)) > 50


def test_names_types_axes_and_opset_stay(pair: Pair) -> None:
    plain, fast = (onnx.load(path) for path in pair.files)
    assert list(fast.graph.input) == list(plain.graph.input)
    assert list(fast.graph.output) == list(plain.graph.output)
    assert {o.domain: o.version for o in fast.opset_import} == {"": 18}
    onnx.checker.check_model(fast, full_check=True)


def test_the_graph_that_was_given_is_left_alone() -> None:
    plain = skeleton(_graph("vae_decoder", _oobleck()))
    before = plain.SerializeToString(deterministic=True)
    optimise(plain, "vae_decoder")
    assert plain.SerializeToString(deterministic=True) == before


def test_what_it_does_not_know_comes_back_as_it_is() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Conv1d(2, 2, 3)

        def forward(self, audio: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.part(audio)
            return result

    axes = {"audio": {0: "B", 2: "samples"}, "latents": {0: "B", 2: "T"}}
    other = Graph("vae_encoder", Other(), {"audio": torch.randn(2, 2, 9)}, ("latents",), axes)
    proto = skeleton(other)
    assert optimise(proto, "vae_encoder") is proto
    known = skeleton(_graph("vae_decoder", _oobleck()))
    assert optimise(known, "dit_decoder") is known


@pytest.mark.parametrize("name", ["vae_decoder", "vae_encoder"])
def test_in_float16_it_is_as_close_to_float32(tmp_path: Path, name: str) -> None:
    x = _input(name, 1, 12)
    halves = tmp_path / "fp16"
    halves.mkdir()
    wanted, _ = Pair(tmp_path, name).outputs(x)
    made = Pair(halves, name, precision="fp16")
    plain, fast = made.outputs(x)
    assert _snr(wanted, fast) > _snr(wanted, plain) - 6
    sizes = [path.stat().st_size for path in made.files]
    assert sizes[1] < sizes[0] + 60_000  # nodes: weights are those of the plain graph


def test_minimal_filter_is_a_filter() -> None:
    spread, taps, gather = minimal_filter()
    draw = np.random.default_rng(0)
    filter_, samples = draw.standard_normal(TAPS), draw.standard_normal(POINTS)
    wanted = [filter_ @ samples[i : i + TAPS] for i in range(OUTPUTS)]
    got = gather @ ((taps @ filter_) * (spread @ samples))
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_the_decoder_is_that_of_diffusers(tmp_path: Path) -> None:
    vae = _oobleck()
    x = _input("vae_decoder", 2, 9)
    with torch.no_grad():
        wanted = AutoencoderOobleck.decode(vae, torch.from_numpy(x)).sample.numpy()
    assert _snr(wanted, Pair(tmp_path, "vae_decoder", vae).outputs(x)[1]) > CLOSE
