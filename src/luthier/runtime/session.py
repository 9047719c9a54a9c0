"""ONNX graphs of a model folder: found through the contract files, opened when first run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from luthier.errors import ModelError, RequestError
from luthier.runtime.contract import CORE_CONTRACT as CORE_CONTRACT
from luthier.runtime.contract import EMBEDDING_CONTRACT as EMBEDDING_CONTRACT
from luthier.runtime.contract import GraphEntry, read_contracts
from luthier.runtime.manifest import Manifest
from luthier.runtime.pool import SHARED, SessionKey, SessionPool
from luthier.runtime.providers import CPU, device_of, provider_named

Tensors = dict[str, NDArray[Any]]
Feeds = Mapping[str, NDArray[Any]]


class Graphs:
    """The graphs of one model folder by their contract names.

    A session is opened at the first `run` of its graph, after its sha256 was checked, and kept in
    the pool, which closes it when memory is short.

    Args:
        folder: holds manifest.json, the contracts and the graphs.
        threads: threads of one session; all cores when not given.
        provider: where to run: cpu, cuda, coreml, directml, or auto.
        pool: of the open sessions; the process's own when not given.

    Raises:
        ModelError: when the folder is missing, incomplete, damaged or of another version.
        RequestError: when the provider is not there.
    """

    def __init__(
        self,
        folder: Path,
        threads: int | None = None,
        *,
        provider: str = "auto",
        pool: SessionPool | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = Manifest(folder)
        self.threads = threads or os.cpu_count() or 1
        self.provider = provider_named(provider)
        self.is_auto = provider == "auto"
        self.pool = pool or SHARED
        self._entries = read_contracts(folder, self.manifest)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def run(self, name: str, feeds: Feeds) -> Tensors:
        """Run a graph; `feeds` may hold more than the graph takes. Returns its outputs by name.

        Raises:
            ModelError: when the graph is absent, cannot be opened, or lacks an input in `feeds`.
        """
        session = self._session(name)
        names = [value.name for value in session.get_outputs()]
        wanted = self._wanted(name, session, feeds)
        results = session.run(names, {value: feeds[value] for value in wanted})
        return dict(zip(names, results, strict=True))

    def bind(self, name: str, constants: Feeds) -> Callable[[Feeds], Tensors]:
        """A graph for many runs with the same `constants`, which go to its device only once.

        The function that is returned takes the other inputs.
        """
        session = self._session(name)
        device = device_of(session)
        fixed = {
            value.name: onnxruntime.OrtValue.ortvalue_from_numpy(constants[value.name], device, 0)
            for value in session.get_inputs()
            if value.name in constants
        }
        names = [value.name for value in session.get_outputs()]

        def run(feeds: Feeds) -> Tensors:
            wanted = self._wanted(name, session, {**constants, **feeds})
            binding = session.io_binding()
            for value in wanted:
                if value in feeds:
                    binding.bind_cpu_input(value, np.ascontiguousarray(feeds[value]))
                else:
                    binding.bind_ortvalue_input(value, fixed[value])
            for value in names:
                binding.bind_output(value)
            session.run_with_iobinding(binding)
            return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))

        return run

    def is_batch_independent(self, name: str) -> bool:
        """Whether an item's result is the same in any batch: not so where activations are scaled
        to 8 bits by what the whole batch holds."""
        return self._entry(name).is_batch_independent

    def release(self, *names: str) -> None:
        """Close sessions (all of this folder's without names) and free their memory."""
        for name in names or tuple(self._entries):
            self.pool.release(self._key(self._entry(name)))

    def array(self, relative: str) -> NDArray[np.float32]:
        """A stored array of the folder as float32."""
        path = self.manifest.verified(relative)
        try:
            values: NDArray[np.float32] = np.load(path, allow_pickle=False).astype(np.float32)
        except ValueError as error:
            raise ModelError(f"the model file {path} is not an array: {error}.") from error
        return values

    def _entry(self, name: str) -> GraphEntry:
        if name not in self._entries:
            raise ModelError(
                f"the model in {self.folder} has no graph {name}: export it again with this "
                "version of luthier."
            )
        return self._entries[name]

    def _key(self, entry: GraphEntry) -> SessionKey:
        path = str((self.folder / entry.path).resolve())
        return SessionKey(path, entry.sha256, self.threads, self.provider)

    def _session(self, name: str) -> onnxruntime.InferenceSession:
        entry = self._entry(name)

        def opened() -> onnxruntime.InferenceSession:
            path = self.manifest.verified(entry.path)
            session = open_session(path, self.threads, self.provider)
            if not self.is_auto and self.provider not in session.get_providers():
                raise RequestError(
                    f"{self.provider} is installed but does not work on this machine (its device "
                    "or driver is missing): choose another provider, for example cpu."
                )
            entry.check(path, session)
            return session

        return self.pool.get(self._key(entry), entry.size_bytes, opened)

    def _wanted(self, name: str, session: onnxruntime.InferenceSession, feeds: Feeds) -> list[str]:
        wanted = [value.name for value in session.get_inputs()]
        missing = [value for value in wanted if value not in feeds]
        if missing:
            raise ModelError(
                f"the graph {name} of {self.folder} wants {', '.join(missing)}, which this version "
                "of luthier does not give: the model was exported for another version."
            )
        return wanted


def open_session(path: Path, threads: int = 1, provider: str = CPU) -> onnxruntime.InferenceSession:
    """Open one graph; raise `ModelError` when ONNX Runtime refuses it.

    What the provider cannot run, the CPU does.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads that spin take the processor from others, and from each other when cores are
    # few.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if provider == "DmlExecutionProvider":  # its requirements
        options.enable_mem_pattern = False
    providers = [provider] if provider == CPU else [provider, CPU]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise ModelError(f"the graph {path} cannot be opened: {error}.") from error
