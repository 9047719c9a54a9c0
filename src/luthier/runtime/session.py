"""ONNX graphs of a model folder: found through the contract files, opened when first run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from luthier.errors import ModelError, PathError
from luthier.files import read_json
from luthier.runtime.manifest import Manifest

CORE_CONTRACT = "io_contract_core.json"
EMBEDDING_CONTRACT = "io_contract_qwen3_embedding_0p6.json"

Tensors = dict[str, NDArray[Any]]


class Graphs:
    """The graphs of one model folder by their contract names.

    A session is opened at the first `run` of its graph, after its sha256 was checked, and kept
    until `release`.

    Args:
        folder: holds manifest.json, the contracts and the graphs.
        threads: threads of one session; all cores when not given.

    Raises:
        ModelError: when the folder is missing, incomplete or damaged.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder = folder
        self.manifest = Manifest(folder)
        self.threads = threads or os.cpu_count() or 1
        self._paths = _contract_paths(folder, self.manifest)
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def run(self, name: str, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
        """Run a graph; `feeds` may hold more than the graph takes. Returns its outputs by name.

        Raises:
            ModelError: when the graph is absent, cannot be opened, or lacks an input in `feeds`.
        """
        session = self._session(name)
        wanted = [value.name for value in session.get_inputs()]
        missing = [value for value in wanted if value not in feeds]
        if missing:
            raise ModelError(
                f"the graph {name} of {self.folder} wants {', '.join(missing)}, which this version "
                "of luthier does not give: the model was exported for another version."
            )
        names = [value.name for value in session.get_outputs()]
        results = session.run(names, {value: feeds[value] for value in wanted})
        return dict(zip(names, results, strict=True))

    def release(self, *names: str) -> None:
        """Close sessions (all of them without names) and free their memory."""
        for name in names or tuple(self._sessions):
            self._sessions.pop(name, None)

    def array(self, relative: str) -> NDArray[np.float32]:
        """A stored array of the folder as float32."""
        path = self.manifest.verified(relative)
        try:
            values: NDArray[np.float32] = np.load(path, allow_pickle=False).astype(np.float32)
        except ValueError as error:
            raise ModelError(f"the model file {path} is not an array: {error}.") from error
        return values

    def _session(self, name: str) -> onnxruntime.InferenceSession:
        if name not in self._sessions:
            if name not in self._paths:
                raise ModelError(f"the model in {self.folder} has no graph {name}.")
            self._sessions[name] = open_session(
                self.manifest.verified(self._paths[name]), self.threads
            )
        return self._sessions[name]


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open one graph for the CPU; raise `ModelError` when ONNX Runtime refuses it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads that spin take the processor from others, and from each other when cores are
    # few.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"the graph {path} cannot be opened: {error}.") from error


def _contract_paths(folder: Path, manifest: Manifest) -> dict[str, str]:
    try:
        core = read_json(manifest.verified(CORE_CONTRACT))
        embedding = read_json(manifest.verified(EMBEDDING_CONTRACT))
        paths = {name: core.get("paths", {}).get(name, f"{name}.onnx") for name in core["inputs"]}
        paths["qwen3_embedding_0p6"] = embedding["path"]
        paths["qwen3_token_embedding_0p6"] = embedding["token_embedding_path"]
    except PathError as error:
        raise ModelError(f"the model in {folder} has a damaged contract: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the model in {folder} has a damaged contract: {error!r}.") from error
    return paths
