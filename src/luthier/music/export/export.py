"""A model folder → a folder of ONNX graphs that plays without torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from luthier.export.audit import audit
from luthier.export.graph_file import Exporter, skeleton
from luthier.export.graph_writer import INSIDE_UP_TO, write_graph
from luthier.export.leftovers import claimed, remove_leftovers
from luthier.export.lowering import Lowered
from luthier.export.parity import Parity, check, compare
from luthier.export.precision import Precision, precision_of
from luthier.export.weights import ModuleWeights, Renamed, StoredWeights, Weights
from luthier.files import read_json, temporary_folder
from luthier.music.export.calibration import Activations, calibrate, calibration_prompts
from luthier.music.export.card import write_card, write_report
from luthier.music.export.contract import write_contracts, write_onnx_manifest
from luthier.music.export.empty_model import hollow_model
from luthier.music.export.options import ExportOptions, default_lms
from luthier.music.export.passes.select import optimise
from luthier.music.export.planner import ExportedLM, lm_manifest_entries, write_lm
from luthier.music.export.quality import Quality, check_quality, measure_quality
from luthier.music.export.rest import write_rest
from luthier.music.torch.autoencoder import MiniAutoencoder
from luthier.music.torch.graphs import Graph, Lengths, graphs_of
from luthier.music.torch.model import MusicModel, load_model, verify_model
from luthier.music.torch.model_folder import ModelFolder, open_model
from luthier.output_folder import check_output, output_folder
from luthier.progress import SILENT, Display
from luthier.provenance import write_run

STAGE = "export"  # in the record of what this module writes
_TRACED = Lengths()
_CHECKED = Lengths(batch=3, text=11, lyric=6, codes=5)
_CODES_CHECKED = replace(_CHECKED, codes=40)  # a share of few codes says little


@dataclass(frozen=True)
class ExportedGraph:
    """One graph of an export."""

    name: str
    precision: Precision
    size_bytes: int
    seconds: float
    parity: Parity | None = None  # not measured without `verify`


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote."""

    folder: Path
    precision: Precision
    opset: int
    graphs: tuple[ExportedGraph, ...]
    planners: tuple[ExportedLM, ...]
    quality: Quality | None  # not measured without `verify`
    size_bytes: int  # of the whole folder
    notices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        planners = [planner.as_dict() for planner in self.planners]
        return asdict(self) | {"folder": str(self.folder), "planners": planners}


@dataclass
class _Work:
    """An export on its way."""

    model: ModelFolder
    hollow: MusicModel
    options: ExportOptions
    activations: Mapping[str, Mapping[str, Activations]] = field(default_factory=dict)
    inside_up_to: int = INSIDE_UP_TO
    skeletons: dict[str, Any] = field(default_factory=dict)

    def skeleton(self, graph: Graph) -> Any:
        """The graph without weights, to be filled: traced once, however often it is written."""
        if graph.name not in self.skeletons:
            traced = skeleton(graph, self.options.opset or 0, self.options.exporter)
            self.skeletons[graph.name] = optimise(traced, graph.name)
        proto = onnx.ModelProto()
        proto.CopyFrom(self.skeletons[graph.name])
        return proto


def export_model(
    model_dir: Path,
    output_dir: Path,
    *,
    precision: Precision = "fp32",
    opset: int | None = None,
    verify: bool = False,
    exporter: Exporter = "trace",
    options: ExportOptions | None = None,
    display: Display = SILENT,
) -> ExportReport:
    """Export every graph of a model, with contracts, manifest and what playing needs besides.

    The folder appears as a whole, or not at all. Weights go from file to file one at a time, so
    memory does not grow with the model, unless `verify` or a calibration runs it in torch.

    Args:
        model_dir: a model folder in any layout that `open_model` reads.
        output_dir: replaced when it is an earlier export, with nothing else in it.
        precision: the wanted tier; a component's floor may be higher (`precision.FLOORS`).
        opset: of the ONNX standard, 17 to 21; with int4 at least 21.
        verify: compare each graph with torch at other lengths than it was traced with, and the
            music that the graphs play with that of float32.
        exporter: how torch is turned into ONNX.
        options: everything that can be chosen; the arguments before it are put into it.

    Raises:
        RequestError: an option is not allowed, or options contradict each other.
        OutputError: what lies in `output_dir` is not an export, or is read (2).
        ModelError: the model cannot be loaded (exit code 1).
        GraphError: a graph cannot be exported (2).
        ParityError: a graph differs too much from torch (3).
        QualityError: the music differs too much from that of float32 (3).
    """
    options = replace(
        options or ExportOptions(),
        precision=precision,
        opset=opset,
        verify=verify,
        exporter=exporter,
    ).settled()
    inputs = [model_dir, *options.inputs]
    check_output(output_dir, STAGE, inputs)
    prompts = calibration_prompts(options.calibration) if options.needs_calibration else ()
    model = open_model(model_dir)
    verify_model(model)
    work = _Work(model, hollow_model(model), options)
    remove_leftovers(output_dir)
    with output_folder(output_dir, STAGE, inputs) as folder, claimed(folder):
        if prompts:
            work.activations = calibrate(model.folder, load_model(model_dir), prompts, display)
        graphs = _write_graphs(work, folder, display)
        if options.verify:
            graphs = _verified(work, folder, graphs, display)
        planners = _write_planners(work, folder, display)
        _finish(work, folder, output_dir.name, graphs, planners, None)
        quality = None
        if options.verify and options.precision != "fp32":
            quality = _quality(work, folder, display)
            check_quality(quality)
            _finish(work, folder, output_dir.name, graphs, planners, quality)
        size = sum(path.stat().st_size for path in folder.iterdir())
    return ExportReport(
        output_dir,
        options.precision,
        options.opset or 0,
        tuple(graphs),
        tuple(planners),
        quality,
        size,
        options.notices(len(prompts)),
    )


def _write_graphs(work: _Work, folder: Path, display: Display) -> list[ExportedGraph]:
    graphs = graphs_of(work.hollow, _TRACED)
    made = []
    with display.task("export", total=len(graphs)) as task:
        for graph in graphs:
            made.append(_write_one(work, graph, folder))
            task.advance(note=graph.name)
    write_rest(work.model, work.hollow, folder, work.options.precision)
    return made


def _write_one(work: _Work, graph: Graph, folder: Path) -> ExportedGraph:
    started, options = time.monotonic(), work.options
    precision = precision_of(graph.name, options.precision)
    path = folder / f"{graph.name}.onnx"
    seen = work.activations.get(graph.component, {})
    # Mini's Fourier matrices are larger than the tables that they are computed of.
    folded = graph.component == "vae" and not isinstance(work.hollow.vae, MiniAutoencoder)
    plan = Lowered(precision, options.int8, seen, folded)
    size = write_graph(work.skeleton(graph), _weights(work, graph), path, plan, work.inside_up_to)
    audit(path, precision)
    return ExportedGraph(graph.name, precision, size, round(time.monotonic() - started, 2))


def _weights(work: _Work, graph: Graph) -> Weights:
    if graph.component == "vae" and isinstance(work.hollow.vae, MiniAutoencoder):
        return Renamed(ModuleWeights(work.hollow.vae), "part.")
    return Renamed(StoredWeights(work.model, graph.component), "part.")


def _verified(
    work: _Work, folder: Path, graphs: list[ExportedGraph], display: Display
) -> list[ExportedGraph]:
    """Each graph with its parity; one component of the model is in memory at a time."""
    found: dict[str, Parity] = {}
    components = work.hollow.modules()
    with display.task("verify", total=len(components)) as task:
        for component in components:
            real = replace(work.hollow, **{component: work.model.part(component)})
            lengths = _CODES_CHECKED if component == "audio_tokenizer" else _CHECKED
            for graph in graphs_of(real, lengths, seed=1, components=[component]):
                parity = compare(graph, folder / f"{graph.name}.onnx")
                check(graph, parity, precision_of(graph.name, work.options.precision))
                found[graph.name] = parity
            task.advance(note=component)
    return [replace(graph, parity=found[graph.name]) for graph in graphs]


def _write_planners(work: _Work, folder: Path, display: Display) -> list[ExportedLM]:
    options = work.options
    folders = default_lms(work.model) if options.planners is None else options.planners
    precision = precision_of("planner", options.precision)
    return [
        write_lm(path, folder, precision=precision, verify=options.verify, display=display)
        for path in folders
    ]


def _quality(work: _Work, folder: Path, display: Display) -> Quality:
    """The music of this export beside that of float32 graphs, which are written for it and go."""
    plain = replace(work.options, precision="fp32", int8="dynamic", calibration=None, verify=False)
    exact = replace(work, options=plain, activations={})
    with temporary_folder(folder) as reference:
        graphs = _write_graphs(exact, reference, display)
        _finish(exact, reference, "fp32", graphs, [], None)
        return measure_quality(reference, folder, work.options.precision, display)


def _finish(
    work: _Work,
    folder: Path,
    name: str,
    graphs: list[ExportedGraph],
    planners: list[ExportedLM],
    quality: Quality | None,
) -> None:
    """Contracts, manifest, report, card and record: from what lies in the folder."""
    write_contracts(folder, num_layers=len(work.hollow.transformer.layers))
    config = work.options.as_dict()
    _write_run(work.model, folder, name, config)
    measured = quality.as_dict() if quality else None
    report = {
        "model": work.hollow.spec.name,
        "tier": work.options.precision,
        "options": config,
        "graphs": [asdict(graph) for graph in graphs],
        "planners": [planner.as_dict() for planner in planners],
        "quality": measured,
    }
    write_report(folder, report)
    write_card(folder, work.hollow.spec, report)
    notes = {
        graph.name: {"precision": graph.precision}
        | ({"parity": graph.parity.as_dict()} if graph.parity else {})
        for graph in graphs
    }
    write_onnx_manifest(
        folder,
        name,
        work.options.precision,
        notes,
        planners={made.tag: lm_manifest_entries(folder, made) for made in planners},
        quality=measured,
    )


def _write_run(model: ModelFolder, folder: Path, name: str, config: Mapping[str, Any]) -> None:
    licences = []
    if (model.folder / "run.json").is_file():
        licences = read_json(model.folder / "run.json").get("licences", [])
    write_run(
        folder,
        stage=STAGE,
        inputs=[model.folder],
        config=config,
        licences=licences,
        name=name,
    )
