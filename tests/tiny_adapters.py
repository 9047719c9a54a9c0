"""Adapters with random matrices for the tiny models, in the layouts that trainers write."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from luthier.export.graph_file import skeleton
from luthier.export.graph_writer import write_graph
from luthier.export.lowering import Lowered
from luthier.export.weights import ModuleWeights, Renamed
from luthier.files import make_folder, write_json
from luthier.music.export.passes.select import optimise
from luthier.music.torch.graphs import Graph
from luthier.runtime.adaptable import AdaptableGraph, Linear, layers_of
from luthier.runtime.session import open_session

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
MLP = ("gate_proj", "up_proj", "down_proj")
ORIGINAL = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out.0": "o_proj"}


def write_adapter(
    folder: Path,
    linears: dict[str, Linear],
    *,
    targets: tuple[str, ...] = ATTENTION,
    rank: int = 3,
    seed: int = 0,
    size: float = 0.3,
    prefix: str = "base_model.model.",
    original_names: bool = False,
    **config: Any,
) -> Path:
    """Write an adapter of the layers whose names end with `targets`; its folder."""
    draw = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, linear in linears.items():
        if not name.endswith(targets) or not name.startswith("layers."):
            continue
        for new, old in ORIGINAL.items() if original_names else ():
            name = name.removesuffix(new) + old if name.endswith(new) else name
        shapes = {"lora_A": (rank, linear.inputs), "lora_B": (linear.outputs, rank)}
        for role, shape in shapes.items():
            matrix = size * draw.standard_normal(shape, dtype=np.float32)
            tensors[f"{prefix}{name}.{role}.weight"] = matrix
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 5, "base_model_name_or_path": "tiny"}
    make_folder(folder)
    write_json(folder / "adapter_config.json", settings | config)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def write_denoiser(graph: Graph, path: Path, precision: Any = "fp32") -> Path:
    """The one graph of a model that adapters are for, without the export around it."""
    weights = Renamed(ModuleWeights(graph.module.part), "part.")
    write_graph(optimise(skeleton(graph), graph.name), weights, path, Lowered(precision))
    return path


def velocity(graph: Graph, path: Path, adapters: dict[str, Any] | None = None) -> Any:
    """What the file makes of the graph's example inputs, with adapters or as it is."""
    feeds = {name: value.numpy() for name, value in graph.inputs.items()}
    made = (
        AdaptableGraph(path.read_bytes(), path).with_inputs(layers_of(adapters))
        if adapters
        else None
    )
    session = open_session(path, graph=made)
    wanted = {value.name for value in session.get_inputs()}
    given = {name: value for name, value in (feeds | (adapters or {})).items() if name in wanted}
    return session.run(["vt"], given)[0]


def trained(transformer: Any, folder: Path, seed: int = 3, **settings: Any) -> tuple[Path, Any]:
    """An adapter as `luthier train` saves it, with random matrices; and what was trained."""
    import torch

    from luthier.training.config import config_from
    from luthier.training.weights_io import prepare, save_trained

    tuned, config = copy.deepcopy(transformer), config_from({"rank": 3, "alpha": 5.0} | settings)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, value in prepare(tuned, config):
            value.add_(0.1 * torch.randn(value.shape, generator=draw))
    make_folder(folder)
    save_trained(tuned, folder, "tiny", full=config.adapter == "full")
    return folder, tuned


def stored(header: dict[str, Any], data: bytes = b"") -> bytes:
    """A file that begins with any header, true or not."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
