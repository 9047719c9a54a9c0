"""A checkpoint → something that plays: base model and what was trained on it, in torch.

`MusicPipeline` plays graphs; here the modules that would be exported stand in for them, so that a
checkpoint is heard without merging and exporting it first, through the same prompts, schedule,
guidance and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import (
    AdapterError,
    LuthierError,
    MissingExtraError,
    ModelError,
    PathError,
    RequestError,
)
from luthier.files import read_json, sha256_of
from luthier.models import is_built_in, torch_model
from luthier.music.adapters.file import read_adapter
from luthier.music.adapters.place import CONFIG_NAME, adapter_files, home_of
from luthier.music.playing.loaded_model import PlayableModel
from luthier.music.playing.pipeline import MusicPipeline
from luthier.provenance import input_record
from luthier.runtime.adaptable import Linear
from luthier.runtime.contract import CORE_CONTRACT
from luthier.runtime.runner import Feeds, Placed, Tensors

_STATE, _MANIFEST = "state.json", "manifest.json"
_MODEL_FILES = ("luthier.json", "model_index.json", "model.safetensors", "silence_latent.pt")


@dataclass(frozen=True)
class Player:
    """What plays a checkpoint.

    Attributes:
        pipeline: generates.
        identity: the same for the same weights: what makes an earlier clip reusable.
        inputs: provenance records of checkpoint and base model.
    """

    pipeline: MusicPipeline
    identity: str
    inputs: tuple[dict[str, str], ...]


class TorchGraphs:
    """The graphs of a model, run by torch (a `GraphRunner`).

    Args:
        model: a `MusicModel`, plain or with an adapter in its denoiser.
    """

    workers = 1  # torch spreads an operator over the cores by itself

    def __init__(self, model: Any) -> None:
        import torch

        from luthier.music.torch.graphs import graphs_of

        self._graphs = {graph.name: graph for graph in graphs_of(model)}
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        for module in model.modules().values():
            module.to(self._device)

    def __contains__(self, name: str) -> bool:
        return name in self._graphs

    def run(self, name: str, feeds: Feeds, *, is_part: bool = False) -> Tensors:
        """Run a graph on arrays; returns its outputs by name."""
        import torch

        graph = self._graphs[name]
        # np.array copies: torch warns of arrays that it must not write to.
        inputs = [torch.from_numpy(np.array(feeds[n])).to(self._device) for n in graph.inputs]
        with torch.inference_mode():
            found = graph.module(*inputs)
        outputs = found if isinstance(found, tuple) else (found,)
        return {key: value.cpu().numpy() for key, value in zip(graph.outputs, outputs, strict=True)}

    def linears(self, name: str) -> Mapping[str, Linear]:
        """None: a checkpoint has its adapter inside.

        Raises:
            RequestError: always.
        """
        raise RequestError(
            "an adapter beside a request needs exported graphs, and these are torch modules: "
            "export the model first, or play the adapter's folder as the checkpoint."
        )

    def placed(self, name: str, adapters: Feeds) -> Placed:
        """Raises as `linears` does."""
        self.linears(name)
        return {}

    def bind(
        self, name: str, constants: Feeds, adapters: Placed | None = None
    ) -> Callable[[Feeds], Tensors]:
        """A graph for many runs with the same `constants`."""
        return lambda feeds: self.run(name, {**constants, **feeds})

    def release(self, *names: str) -> None:
        """Nothing to close: the modules are the caller's."""

    def is_batch_independent(self, name: str) -> bool:
        """Always: torch runs in floating point."""
        return True


def torch_pipeline(folder: Path, model: Any) -> MusicPipeline:
    """A pipeline over a model in torch.

    Args:
        folder: of the base model.
        model: a `MusicModel`.
    """
    parts = PlayableModel(
        folder=folder,
        graphs=TorchGraphs(model),
        spec=model.spec,
        tokenizer=model.tokenizer,
        silence_latent=model.silence[:, : model.spec.max_frames].numpy(),
        null_condition=model.condition_encoder.null_condition_emb.detach().numpy(),
    )
    return MusicPipeline.of(parts)


def place_of(path: Path) -> Path:
    """Where a checkpoint lies; `mini` is the built-in model, unless something has that name."""
    return torch_model(path) if is_built_in(path) and not path.exists() else path


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is something that plays, rather than a folder of audio."""
    names = (_STATE, CORE_CONTRACT, *_MODEL_FILES)
    return is_adapter(path) or any((path / name).is_file() for name in names)


def is_adapter(path: Path) -> bool:
    """Whether `path` is a folder or file that an adapter lies in, sound or not."""
    try:
        adapter_files(path)
    except AdapterError:
        return (path / CONFIG_NAME).is_file()
    return True


def open_player(checkpoint: Path, base_model: str | None = None) -> Player:
    """Open a checkpoint of `train`, an adapter, a model folder or a folder of ONNX graphs.

    Args:
        checkpoint: the folder, or the file of an adapter.
        base_model: `mini` or a model folder; None takes the one that the checkpoint names.

    Raises:
        PathError: there is nothing of the kind.
        ModelError: the base model is missing, or another one than the checkpoint was trained on.
        AdapterError: the checkpoint is damaged, holds a NaN, or does not fit the base model.
        MissingExtraError: torch is not installed.
    """
    if not is_checkpoint(checkpoint):
        raise PathError(
            f"{checkpoint} is no checkpoint: it has neither {CONFIG_NAME} (an adapter) nor "
            f"{_MODEL_FILES[0]} or {_MODEL_FILES[1]} (a model) nor {CORE_CONTRACT} (ONNX graphs)."
        )
    if (checkpoint / CORE_CONTRACT).is_file():
        digest = sha256_of(checkpoint / _MANIFEST)
        pipeline = MusicPipeline(checkpoint)
        return Player(pipeline, digest, (input_record(checkpoint, digest),))
    try:
        from luthier.music.torch.model import load_model
        from luthier.music.torch.model_folder import open_model
        from luthier.training.weights_io import load_trained
    except ImportError:
        raise MissingExtraError("playing a checkpoint", "train") from None
    is_trained = is_adapter(checkpoint) or (checkpoint / _STATE).is_file()
    base = base_of(checkpoint, base_model) if is_trained else checkpoint
    identity = open_model(base).identity
    inputs = [input_record(base, identity)]
    if is_trained:
        _refuse_other_base(checkpoint, base, identity)
        identity += "".join(sha256_of(path) for path in _weights(checkpoint))
        inputs.insert(0, input_record(checkpoint))
    model = load_model(base)
    if is_trained:
        load_trained(model.transformer, checkpoint)
    return Player(torch_pipeline(base, model), identity, tuple(inputs))


def _weights(checkpoint: Path) -> tuple[Path, ...]:
    """The files that decide what a checkpoint sounds like: not the optimiser's moments."""
    from luthier.training.weights_io import FULL_WEIGHTS

    full = checkpoint / FULL_WEIGHTS
    return (full,) if full.is_file() else adapter_files(checkpoint).all


def base_of(checkpoint: Path, base_model: str | None) -> Path:
    """The folder of the model that a checkpoint was trained on.

    Raises:
        ModelError: nobody says which it is, or it is not where it was.
    """
    if base_model is not None:
        return place_of(Path(base_model))
    origin = _origin(checkpoint)
    name = origin.get("model_name") or _base_name(checkpoint)
    if name and is_built_in(name):
        return torch_model(name)
    for record in origin.get("inputs", []):
        folder = Path(str(record.get("path", "")))
        if any((folder / file).is_file() for file in _MODEL_FILES):
            return folder
    if name and Path(name).is_dir():
        return Path(name)
    raise ModelError(
        f"the base model of {checkpoint} ({name or 'it does not say which'}) is not on this "
        "machine where it was: name its folder with --base-model."
    )


def _refuse_other_base(checkpoint: Path, base: Path, identity: str) -> None:
    origin = _origin(checkpoint)
    wanted = origin.get("model_identity")
    if wanted and wanted != identity:
        raise ModelError(
            f"{checkpoint} was trained on another model than {base}: on "
            f"{origin.get('model_name', 'one')} with sha256 {str(wanted)[:12]}, and this one has "
            f"{identity[:12]}. Name the right one with --base-model."
        )


def _origin(checkpoint: Path) -> dict[str, Any]:
    try:
        origin = read_json(home_of(checkpoint) / _STATE)["origin"]
    except (LuthierError, KeyError, TypeError):  # an adapter of another trainer
        return {}
    return origin if isinstance(origin, dict) else {}


def _base_name(checkpoint: Path) -> str | None:
    return read_adapter(checkpoint).base_model or None if is_adapter(checkpoint) else None
