"""A model folder in torch → a folder of ONNX graphs that plays without torch."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from luthier.errors import RequestError
from luthier.export.contract import write_contracts, write_onnx_manifest
from luthier.export.graph_file import MINIMUM_OPSET, Exporter, GraphError, to_onnx
from luthier.export.parity import Parity, check, compare
from luthier.export.precision import PRECISIONS, Precision, lowered, precision_of
from luthier.files import atomic_folder, read_json
from luthier.music.graphs import Graph, Lengths, graphs_of
from luthier.music.model import MusicModel, load_model
from luthier.music.spec import save_spec
from luthier.progress import SILENT, Display
from luthier.provenance import write_run

_TRACED = Lengths()
_CHECKED = Lengths(batch=3, text=11, lyric=6, codes=5)
_PROTOBUF_LIMIT = 2**31 - 2**20


@dataclass(frozen=True)
class ExportedGraph:
    """One graph of an export."""

    name: str
    precision: Precision
    size_bytes: int
    seconds: float
    parity: Parity | None  # not measured without `verify`


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote."""

    folder: Path
    precision: Precision
    graphs: tuple[ExportedGraph, ...]
    size_bytes: int  # of the whole folder

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def export_model(
    model_dir: Path,
    output_dir: Path,
    *,
    precision: Precision = "fp32",
    opset: int = MINIMUM_OPSET,
    verify: bool = False,
    exporter: Exporter = "trace",
    display: Display = SILENT,
) -> ExportReport:
    """Export every graph of a model, with contracts, manifest and what playing needs besides.

    The folder appears as a whole, or not at all.

    Args:
        model_dir: a torch model folder.
        output_dir: replaced when it exists.
        precision: the wanted tier; a component's floor may be higher (`precision.FLOORS`).
        opset: of the ONNX standard, 18 or newer.
        verify: compare each graph with torch at other lengths than it was traced with.
        exporter: how torch is turned into ONNX.

    Raises:
        ModelError: the model cannot be loaded (exit code 1).
        GraphError: a graph cannot be exported (2).
        ParityError: a graph differs too much from torch (3).
    """
    if precision not in PRECISIONS:
        raise RequestError(f"precision is {precision!r}: choose {', '.join(PRECISIONS)}.")
    if opset < MINIMUM_OPSET:
        raise RequestError(f"opset is {opset}: {MINIMUM_OPSET} or newer is needed.")
    model = load_model(model_dir)
    # Parity is against the model as it is, at other lengths than the traced ones.
    references = graphs_of(model, _CHECKED, seed=1) if verify else []
    examples = {graph.name: graph for graph in references}
    graphs = graphs_of(model, _TRACED)
    with atomic_folder(output_dir) as folder:
        exported = []
        with display.task("export", total=len(graphs)) as task:
            for graph in graphs:
                made = _export_graph(graph, folder, precision, opset, exporter, examples)
                exported.append(made)
                task.advance(note=graph.name)
        _write_rest(model, folder)
        write_contracts(folder, num_layers=len(model.transformer.layers))
        write_onnx_manifest(folder, output_dir.name, precision, _notes(exported))
        config = {"precision": precision, "opset": opset, "exporter": exporter, "verify": verify}
        _write_run(folder, output_dir, model_dir, config)
        size = sum(path.stat().st_size for path in folder.iterdir())
    return ExportReport(output_dir, precision, tuple(exported), size)


def _export_graph(
    graph: Graph,
    folder: Path,
    wanted: Precision,
    opset: int,
    exporter: Exporter,
    examples: dict[str, Graph],
) -> ExportedGraph:
    started = time.monotonic()
    precision = precision_of(graph.name, wanted)
    path = folder / f"{graph.name}.onnx"
    _save(lowered(to_onnx(graph, opset, exporter), precision), path, graph.name)
    parity = None
    if graph.name in examples:
        parity = compare(examples[graph.name], path)
        check(graph, parity, precision)
    sizes = (p.stat().st_size for p in folder.glob(f"{path.name}*"))
    seconds = round(time.monotonic() - started, 2)
    return ExportedGraph(graph.name, precision, sum(sizes), seconds, parity)


def _save(proto: Any, path: Path, name: str) -> None:
    if proto.ByteSize() < _PROTOBUF_LIMIT:
        onnx.save(proto, path)
        return
    try:
        onnx.save(
            proto,
            path,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=f"{path.name}.data",
        )
    except ValueError as error:
        raise GraphError(f"the graph {name} is too large to be written: {error}") from error


def _write_rest(model: MusicModel, folder: Path) -> None:
    """What the torch-free side needs besides the graphs."""
    save_spec(model.spec, folder)
    model.tokenizer.save(str(folder / "tokenizer.json"))
    silence = model.silence[:, : model.spec.max_frames].numpy()
    if np.array_equal(silence, np.broadcast_to(silence[:, :1], silence.shape)):
        silence = silence[:, :1]  # one frame stands for all of them
    np.save(folder / "silence_latent.npy", silence.astype(np.float16))
    null = model.condition_encoder.null_condition_emb.detach().numpy()
    np.save(folder / "null_condition_emb.npy", null.astype(np.float32))


def _notes(exported: list[ExportedGraph]) -> dict[str, dict[str, Any]]:
    return {
        graph.name: {"precision": graph.precision}
        | ({"parity": graph.parity.as_dict()} if graph.parity else {})
        for graph in exported
    }


def _write_run(folder: Path, output: Path, source: Path, config: dict[str, Any]) -> None:
    licences = []
    if (source / "run.json").is_file():
        licences = read_json(source / "run.json").get("licences", [])
    write_run(
        folder,
        stage="export",
        inputs=[source],
        config=config,
        licences=licences,
        name=output.name,
    )
