"""The contract files and the manifest of an export, read from the graphs, never written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

from luthier.files import sha256_of, write_json
from luthier.runtime.manifest import MANIFEST_NAME
from luthier.runtime.session import CORE_CONTRACT, EMBEDDING_CONTRACT

CORE_GRAPHS = (
    "condition_encoder",
    "dit_decoder",
    "audio_tokenizer",
    "audio_detokenizer",
    "vae_decoder",
    "vae_encoder",
)
EMBEDDING, TOKEN_EMBEDDING = "qwen3_embedding_0p6", "qwen3_token_embedding_0p6"
_EXPORT_RECORDS = (MANIFEST_NAME, "run.json")


def signature(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Input names, output names and external data files of a graph file."""
    proto = onnx.load(path, load_external_data=False)
    sidecars = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    inputs = [value.name for value in proto.graph.input]
    return inputs, [value.name for value in proto.graph.output], sorted(sidecars)


def write_contracts(folder: Path, num_layers: int) -> None:
    """Write `io_contract_core.json` and the embedding's contract for the graphs in `folder`."""
    names = {name: signature(folder / f"{name}.onnx") for name in CORE_GRAPHS}
    write_json(
        folder / CORE_CONTRACT,
        {
            "inputs": {name: inputs for name, (inputs, _, _) in names.items()},
            "outputs": {name: outputs for name, (_, outputs, _) in names.items()},
            "num_layers": num_layers,
            "paths": {name: f"{name}.onnx" for name in names},
        },
    )
    inputs, outputs, _ = signature(folder / f"{EMBEDDING}.onnx")
    token_inputs, token_outputs, _ = signature(folder / f"{TOKEN_EMBEDDING}.onnx")
    write_json(
        folder / EMBEDDING_CONTRACT,
        {
            "path": f"{EMBEDDING}.onnx",
            "inputs": inputs,
            "outputs": outputs,
            "token_embedding_path": f"{TOKEN_EMBEDDING}.onnx",
            "token_embedding_inputs": token_inputs,
            "token_embedding_outputs": token_outputs,
        },
    )


def write_onnx_manifest(
    folder: Path, root: str, precision: str, extra: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write `manifest.json` for everything in `folder`.

    Args:
        root: the name of the folder that it will be.
        precision: the tier that was asked for.
        extra: more about a graph (its precision, its parity), by component.
    """
    groups: dict[str, dict[str, Any]] = {"core": {}, EMBEDDING: {}}
    sidecars: set[str] = set()
    for path in sorted(folder.glob("*.onnx")):
        inputs, outputs, external = signature(path)
        sidecars.update(external)
        group = "core" if path.stem in CORE_GRAPHS else EMBEDDING
        groups[group][path.name] = {
            "path": path.name,
            "external_data": bool(external),
            "external_files": external,
            "inputs": inputs,
            "outputs": outputs,
            **_digest(path),
            **extra.get(path.stem, {}),
        }
    others = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix != ".onnx"]
    write_json(
        folder / MANIFEST_NAME,
        {
            "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "artifact_root": root,
            "precision": precision,
            "models": groups,
            "files": {p.name: _digest(p) for p in others if p.name not in _EXPORT_RECORDS},
        },
    )


def _digest(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
