"""ONNX graphs of a model folder: found through the contract files, opened when first run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from luthier.errors import ModelError, RequestError
from luthier.files import link_or_copy, temporary_folder
from luthier.runtime.adaptable import AdaptableGraph, Linear, layers_of
from luthier.runtime.contract import CORE_CONTRACT as CORE_CONTRACT
from luthier.runtime.contract import EMBEDDING_CONTRACT as EMBEDDING_CONTRACT
from luthier.runtime.contract import GraphEntry, read_contracts
from luthier.runtime.manifest import Manifest
from luthier.runtime.pool import SHARED, SessionKey, SessionPool
from luthier.runtime.providers import CPU, device_of, provider_named
from luthier.runtime.runner import Feeds, Placed, Tensors

_MOST_WORKERS = 4
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


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
        # A processor's cores get more done with a part of the work each than with a share of every
        # operator; few parts, because each needs memory.
        self.workers = min(self.threads, _MOST_WORKERS) if self.provider == CPU else 1
        self._entries = read_contracts(folder, self.manifest)
        self._linears: dict[str, dict[str, Linear]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def run(self, name: str, feeds: Feeds, *, is_part: bool = False) -> Tensors:
        """Run a graph; `feeds` may hold more than the graph takes. Returns its outputs by name.

        Args:
            is_part: `workers` threads of the caller run it at a time, each on its share of the
                threads of this folder.

        Raises:
            ModelError: when the graph is absent, cannot be opened, or lacks an input in `feeds`.
        """
        session = self._session(name, workers=self.workers if is_part else 1)
        names = [value.name for value in session.get_outputs()]
        wanted = self._wanted(name, session, feeds)
        results = session.run(names, {value: feeds[value] for value in wanted})
        return dict(zip(names, results, strict=True))

    def linears(self, name: str) -> Mapping[str, Linear]:
        """The linear layers of a graph that an adapter can add to, by name."""
        if name not in self._linears:
            self._linears[name] = self._adaptable(name).linears
        return self._linears[name]

    def placed(self, name: str, adapters: Feeds) -> Placed:
        """The matrices of adapters, on the device where the graph runs that takes them.

        Args:
            adapters: by the names of `input_names`, of some of the graph's `linears`.
        """
        device = device_of(self._session(name, adapted=layers_of(adapters)))
        return {
            key: onnxruntime.OrtValue.ortvalue_from_numpy(value, device, 0)
            for key, value in adapters.items()
        }

    def bind(
        self, name: str, constants: Feeds, adapters: Placed | None = None
    ) -> Callable[[Feeds], Tensors]:
        """A graph for many runs with the same `constants`, which go to its device only once.

        The function that is returned takes the other inputs.

        Args:
            adapters: what its linear layers add (`placed`); without, the graph as it was exported.
        """
        session = self._session(name, adapted=layers_of(adapters or {}))
        device = device_of(session)
        fixed = dict(adapters or {}) | {
            value.name: onnxruntime.OrtValue.ortvalue_from_numpy(constants[value.name], device, 0)
            for value in session.get_inputs()
            if value.name in constants
        }
        names = [value.name for value in session.get_outputs()]

        def run(feeds: Feeds) -> Tensors:
            wanted = self._wanted(name, session, {**fixed, **feeds})
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
            self.pool.release(str((self.folder / self._entry(name).path).resolve()))

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

    def _key(self, entry: GraphEntry, adapted: tuple[str, ...], workers: int) -> SessionKey:
        path, threads = str((self.folder / entry.path).resolve()), self.threads // workers
        return SessionKey(path, entry.sha256, threads, self.provider, adapted)

    def _adaptable(self, name: str) -> AdaptableGraph:
        path = self.manifest.verified(self._entry(name).path)
        return AdaptableGraph(path.read_bytes(), path)

    def _session(
        self, name: str, *, adapted: tuple[str, ...] = (), workers: int = 1
    ) -> onnxruntime.InferenceSession:
        entry = self._entry(name)
        key = self._key(entry, adapted, workers)

        def opened() -> onnxruntime.InferenceSession:
            path = self.manifest.verified(entry.path)
            graph = self._adaptable(name).with_inputs(adapted) if adapted else None
            session = open_session(
                path, key.threads, self.provider, graph, runs_at_once=workers > 1
            )
            if not self.is_auto and self.provider not in session.get_providers():
                raise RequestError(
                    f"{self.provider} is installed but does not work on this machine (its device "
                    "or driver is missing): choose another provider, for example cpu."
                )
            if not adapted:
                entry.check(path, session)
            return session

        return self.pool.get(key, entry.size_bytes, opened)

    def _wanted(
        self, name: str, session: onnxruntime.InferenceSession, feeds: Mapping[str, Any]
    ) -> list[str]:
        wanted = [value.name for value in session.get_inputs()]
        missing = [value for value in wanted if value not in feeds]
        if missing:
            raise ModelError(
                f"the graph {name} of {self.folder} wants {', '.join(missing)}, which this version "
                "of luthier does not give: the model was exported for another version."
            )
        return wanted


def open_session(
    path: Path,
    threads: int = 1,
    provider: str = CPU,
    graph: bytes | None = None,
    *,
    runs_at_once: bool = False,
) -> onnxruntime.InferenceSession:
    """Open one graph; raise `ModelError` when ONNX Runtime refuses it.

    What the provider cannot run, the CPU does.

    Args:
        graph: what to open instead of what the file holds; weights beside the file stay there.
        runs_at_once: whether several threads are to run it at a time.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads that spin take the processor from others, and from each other when cores are
    # few.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # A pattern keeps the memory of a whole run for each run at once. DirectML allows none.
    options.enable_mem_pattern = not (runs_at_once or provider == "DmlExecutionProvider")
    providers = [provider] if provider == CPU else [provider, CPU]
    try:
        if graph is None:
            return onnxruntime.InferenceSession(str(path), options, providers=providers)
        with _weights_beside(path) as folder:
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder))
            return onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:
        raise ModelError(f"the graph {path} cannot be opened: {error}.") from error


@contextmanager
def _weights_beside(path: Path) -> Iterator[Path]:
    """The folder of a graph's weights. ONNX Runtime refuses a link out of it, as in the hub's
    cache: then another folder, in which the file has a name of its own while it is opened."""
    data = path.with_name(f"{path.name}.data")
    if not data.is_symlink():
        yield path.parent
        return
    beside = data.resolve().parent  # where a second name costs nothing
    with temporary_folder(beside if os.access(beside, os.W_OK) else None) as folder:
        link_or_copy(data, folder / data.name)
        yield folder
