"""The contract files and the manifest of an export, read from the graphs, never written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

from luthier.files import sha256_of, write_json
from luthier.runtime.contract import CONTRACT_VERSION, CORE_CONTRACT, EMBEDDING_CONTRACT
from luthier.runtime.manifest import MANIFEST_NAME

CORE_GRAPHS = (
    "condition_encoder",
    "dit_decoder",
    "audio_tokenizer",
    "audio_code_embedding",
    "audio_detokenizer",
    "vae_decoder",
    "vae_encoder",
)
EMBEDDING, TOKEN_EMBEDDING = "qwen3_embedding_0p6", "qwen3_token_embedding_0p6"
# The operator that scales a whole tensor, all items of a batch in it, by its largest values.
_SCALED_BY_BATCH = "DynamicQuantizeLinear"
_EXPORT_RECORDS = (MANIFEST_NAME, "run.json", "report.json", "README.md", "export.pid")


@dataclass(frozen=True)
class GraphFile:
    """What a graph file says of itself.

    Attributes:
        sidecars: names of the files beside it that hold its weights.
        is_batch_independent: no activation is scaled by what the whole batch holds.
    """

    inputs: list[str]
    outputs: list[str]
    sidecars: list[str]
    is_batch_independent: bool


def read_graph(path: Path) -> GraphFile:
    """Read what contract and manifest tell of a graph."""
    proto = onnx.load(path, load_external_data=False)
    sidecars = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return GraphFile(
        inputs=[value.name for value in proto.graph.input],
        outputs=[value.name for value in proto.graph.output],
        sidecars=sorted(sidecars),
        is_batch_independent=all(n.op_type != _SCALED_BY_BATCH for n in proto.graph.node),
    )


def write_contracts(folder: Path, num_layers: int) -> None:
    """Write `io_contract_core.json` and the embedding's contract for the graphs in `folder`."""
    graphs = {name: read_graph(folder / f"{name}.onnx") for name in CORE_GRAPHS}
    write_json(
        folder / CORE_CONTRACT,
        {
            "contract_version": CONTRACT_VERSION,
            "inputs": {name: graph.inputs for name, graph in graphs.items()},
            "outputs": {name: graph.outputs for name, graph in graphs.items()},
            "num_layers": num_layers,
            "paths": {name: f"{name}.onnx" for name in graphs},
        },
    )
    states, tokens = (read_graph(folder / f"{name}.onnx") for name in (EMBEDDING, TOKEN_EMBEDDING))
    write_json(
        folder / EMBEDDING_CONTRACT,
        {
            "contract_version": CONTRACT_VERSION,
            "path": f"{EMBEDDING}.onnx",
            "inputs": states.inputs,
            "outputs": states.outputs,
            "token_embedding_path": f"{TOKEN_EMBEDDING}.onnx",
            "token_embedding_inputs": tokens.inputs,
            "token_embedding_outputs": tokens.outputs,
        },
    )


def write_onnx_manifest(
    folder: Path,
    root: str,
    precision: str,
    extra: Mapping[str, Mapping[str, Any]],
    *,
    planners: Mapping[str, Mapping[str, Any]] | None = None,
    quality: Mapping[str, Any] | None = None,
) -> None:
    """Write `manifest.json` for everything in `folder`.

    Args:
        root: the name of the folder that it will be.
        precision: the tier that was asked for.
        extra: more about a graph (its precision, its parity), by component.
        planners: the groups of the language models, by tag, then by file.
        quality: how the tier's music compares to float32's, where that was measured.
    """
    groups: dict[str, dict[str, Any]] = {"core": {}, EMBEDDING: {}}
    groups |= {tag: dict(entries) for tag, entries in (planners or {}).items()}
    named = {name for entries in groups.values() for name in entries}
    for path in sorted(p for p in folder.glob("*.onnx") if p.name not in named):
        group = "core" if path.stem in CORE_GRAPHS else EMBEDDING
        groups[group][path.name] = {**manifest_entry(path), **extra.get(path.stem, {})}
    write_json(
        folder / MANIFEST_NAME,
        {
            "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "artifact_root": root,
            "precision": precision,
            "quality": quality,
            "models": groups,
            "files": other_files(folder),
        },
    )


def manifest_entry(path: Path) -> dict[str, Any]:
    """What a manifest records of a graph file, whatever was measured about it."""
    graph = read_graph(path)
    return {
        "path": path.name,
        "external_data": bool(graph.sidecars),
        "external_files": graph.sidecars,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        **_digest(path),
        "batch_independent": graph.is_batch_independent,
    }


def other_files(folder: Path) -> dict[str, dict[str, Any]]:
    """What a manifest records of the files beside the graphs."""
    paths = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix != ".onnx")
    return {path.name: _digest(path) for path in paths if path.name not in _EXPORT_RECORDS}


def _digest(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
