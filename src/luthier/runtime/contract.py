"""The contract files of a model folder: which graphs there are, where, with which names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import ModelError, PathError
from luthier.files import read_json
from luthier.runtime.manifest import REMEDY, Manifest

CORE_CONTRACT = "io_contract_core.json"
EMBEDDING_CONTRACT = "io_contract_qwen3_embedding_0p6.json"
CONTRACT_VERSION = 1  # what this version of luthier reads; contracts that say none are of 1

_TEXT = ("qwen3_embedding_0p6", "")  # a graph and what its keys begin with
_TOKENS = ("qwen3_token_embedding_0p6", "token_embedding_")
_SCALED_BY_BATCH = "int8"  # the precision whose activations share a scale


@dataclass(frozen=True)
class GraphEntry:
    """One graph, as contract and manifest describe it.

    Attributes:
        path: in the folder.
        size_bytes: of the graph with its sidecars.
        is_batch_independent: an item's result does not depend on what else is in its batch.
    """

    path: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sha256: str
    size_bytes: int
    is_batch_independent: bool

    def check(self, path: Path, session: Any) -> None:
        """Raise `ModelError` when a session's names are not the contract's."""
        found = tuple(value.name for value in session.get_inputs())
        made = tuple(value.name for value in session.get_outputs())
        # An exporter may drop an input that a graph does not use.
        if not set(found) <= set(self.inputs) or made != self.outputs:
            raise ModelError(
                f"the graph {path} takes {', '.join(found)} and gives {', '.join(made)}, which is "
                f"not what its contract says. {REMEDY}"
            )


def read_contracts(folder: Path, manifest: Manifest) -> dict[str, GraphEntry]:
    """Every graph of a folder by its contract name.

    Raises:
        ModelError: a contract is missing, damaged, or of another version.
    """
    try:
        core = read_json(manifest.verified(CORE_CONTRACT))
        embedding = read_json(manifest.verified(EMBEDDING_CONTRACT))
        for contract in (core, embedding):
            check_version(folder, contract)
        found = {
            name: (
                core.get("paths", {}).get(name, f"{name}.onnx"),
                core["inputs"][name],
                core["outputs"][name],
            )
            for name in core["inputs"]
        }
        for name, prefix in (_TEXT, _TOKENS):
            keys = (f"{prefix}path", f"{prefix}inputs", f"{prefix}outputs")
            found[name] = tuple(embedding[key] for key in keys)
        return {name: _entry(manifest, *values) for name, values in found.items()}
    except PathError as error:
        raise ModelError(f"the model in {folder} has a damaged contract: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the model in {folder} has a damaged contract: {error!r}.") from error


def check_version(folder: Path, contract: dict[str, Any]) -> None:
    """Raise `ModelError` when a contract is of another version than this luthier reads."""
    version = contract.get("contract_version", CONTRACT_VERSION)
    if version != CONTRACT_VERSION:
        raise ModelError(
            f"the model in {folder} has contracts of version {version}; this luthier reads version "
            f"{CONTRACT_VERSION}: export the model again, or install the luthier that made it."
        )


def _entry(manifest: Manifest, path: str, inputs: list[str], outputs: list[str]) -> GraphEntry:
    record = manifest.graphs.get(path, {})
    sidecars = [manifest.files.get(name, {}) for name in record.get("external_files", ())]
    precision = record.get("precision")
    return GraphEntry(
        path=path,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        sha256=str(record.get("sha256", "")),
        size_bytes=sum(int(r.get("size_bytes", 0)) for r in (record, *sidecars)),
        is_batch_independent=bool(record.get("batch_independent", precision != _SCALED_BY_BATCH)),
    )
