"""An adapter on disk, in the spelling of any trainer → its matrices by layer. No torch.

The one reader: what plays, merges, evaluates, converts and trains an adapter reads it here. It
takes a folder as PEFT writes it (`adapter_config.json`, `adapter_model.safetensors`), one with
diffusers' `pytorch_lora_weights.safetensors`, and single files of ComfyUI, kohya's tools and
LyCORIS. Pickled files are never opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from luthier.errors import AdapterError, LuthierError, ModelError
from luthier.files import read_json, sha256_of
from luthier.music.adapters.layer import LayerWeights, Strength, check_layer, product_rank, told
from luthier.music.adapters.names import ALPHA, is_original, native_layer, role_of
from luthier.music.adapters.patterns import is_strength
from luthier.music.adapters.place import SUFFIX, AdapterFiles, adapter_files
from luthier.music.adapters.settings import Settings, read_settings
from luthier.runtime.manifest import MANIFEST_NAME
from luthier.runtime.tensors import Numbers, TensorFile, tensors_in, tensors_of

MOST_BYTES = 2 * 2**30  # of a file of matrices: twice what rank 256 in every layer of 2B takes
_MOST_CONFIG_BYTES = 2**20


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter that was checked: whole, finite, its layers named as in diffusers' denoiser.

    Attributes:
        spelling: peft, acestep, diffusers, comfyui, kohya or lycoris.
        base_model: what it says that it was trained on; may be empty.
        sha256, config_sha256: of its two files; the second is empty where there is one.
    """

    files: AdapterFiles
    spelling: str
    base_model: str
    sha256: str
    config_sha256: str
    layers: Mapping[str, LayerWeights] = field(repr=False)

    @property
    def method(self) -> str:
        """LoRA, rsLoRA, DoRA, LoKr, or LoKr with DoRA."""
        some = next(iter(self.layers.values()))
        dora = any(layer.has_magnitude for layer in self.layers.values())
        if any(layer.is_kronecker for layer in self.layers.values()):
            return "LoKr with DoRA" if dora else "LoKr"
        if dora:
            return "DoRA"
        return "rsLoRA" if some.strength.by_root else "LoRA"

    @property
    def rank(self) -> int:
        """The largest; of whole factors, what the configuration calls so."""
        found = max(layer.rank for layer in self.layers.values())
        return found or int(max(layer.strength.rank for layer in self.layers.values()))

    @property
    def name(self) -> str:
        """What it is called in a list: of a file without its suffix."""
        place = self.files.place
        return place.stem if place.suffix == SUFFIX else place.name


def read_adapter(place: Path, *, in_memory: bool = False) -> StoredAdapter:
    """Read an adapter.

    Args:
        place: its folder or file.
        in_memory: keep the matrices' bytes; otherwise each is read again when it is asked for.

    Raises:
        AdapterError: it is missing, damaged, incomplete, not finite, too large or of another kind.
    """
    files = adapter_files(place)
    config_data = _bytes_of(files.config, _MOST_CONFIG_BYTES) if files.config else b""
    _refuse_large(files.weights)
    try:
        if in_memory:
            data = _bytes_of(files.weights, MOST_BYTES)
            digest, found = hashlib.sha256(data).hexdigest(), tensors_of(data, str(files.weights))
        else:
            digest, found = sha256_of(files.weights), tensors_in(files.weights)
    except LuthierError as error:
        raise AdapterError(str(error)) from error
    digests = {files.weights: digest}
    if files.config:
        digests[files.config] = hashlib.sha256(config_data).hexdigest()
    settings = read_settings(files, config_data, found.metadata)
    layers, spelling = _layers(files, settings, found)
    _check_manifest(files, digests)
    base = settings.values.get("base_model_name_or_path") or found.metadata.get("base_model") or ""
    config_digest = digests[files.config] if files.config else ""
    return StoredAdapter(files, spelling, str(base), digest, config_digest, layers)


def _refuse_large(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}.") from error
    if size > MOST_BYTES:
        raise AdapterError(f"{path} is larger than {MOST_BYTES / 1e6:.3g} MB: that is no adapter.")


def _bytes_of(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > most:
        raise AdapterError(f"{path} is larger than {most / 1e6:.3g} MB: that is no adapter.")
    return data


def _check_manifest(files: AdapterFiles, digests: Mapping[Path, str]) -> None:
    """Raise `AdapterError` where a checkpoint of `luthier train` is not what it was written as."""
    folder = files.weights.parent
    if not (folder / MANIFEST_NAME).is_file():
        return
    try:
        listed = read_json(folder / MANIFEST_NAME)["files"]
        wrong = [
            path.name
            for path, digest in digests.items()
            if (path.name in listed or files.config) and listed[path.name]["sha256"] != digest
        ]
    except (LuthierError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{folder / MANIFEST_NAME} is damaged, or of something else: remove it, or take "
            "another checkpoint."
        ) from error
    if wrong:
        raise AdapterError(
            f"the checkpoint {folder} is torn: the sha256 of {wrong[0]} is not the one in "
            f"{MANIFEST_NAME}. Take another one."
        )


def _layers(
    files: AdapterFiles, settings: Settings, found: TensorFile
) -> tuple[dict[str, LayerWeights], str]:
    """The layers by diffusers' names, and the spelling that they were found in."""
    groups: dict[str, dict[str, Numbers]] = {}
    names: dict[str, dict[str, str]] = {}
    for name, tensor in found.tensors.items():
        spelled = role_of(name)
        if spelled is None:
            raise AdapterError(
                f"{files.place} also holds {name[:120]!r}: only the matrices of LoRA, DoRA and "
                "LoKr for linear layers can be read."
            )
        if spelled.role in groups.setdefault(spelled.layer, {}):
            raise AdapterError(f"{files.place} holds {name[:120]!r} twice, in two spellings.")
        groups[spelled.layer][spelled.role] = tensor
        names.setdefault(spelled.layer, {})[spelled.role] = name
    if not groups:
        raise AdapterError(f"{files.place} holds no matrices of an adapter.")
    layers: dict[str, LayerWeights] = {}
    for spelled_layer, tensors in groups.items():
        native = native_layer(spelled_layer)
        if native in layers:
            raise AdapterError(f"{files.place} names the layer {native} twice, in two spellings.")
        try:
            layers[native] = _layer(settings, spelled_layer, tensors, names[spelled_layer])
        except AdapterError as error:
            raise AdapterError(f"{files.place}: {error}") from error
        except ModelError as error:
            raise AdapterError(str(error)) from error
    kinds = {(layer.is_kronecker, layer.has_magnitude) for layer in layers.values()}
    if len(kinds) > 1:
        raise AdapterError(
            f"{files.place} mixes layers of LoRA, LoKr or DoRA: one kind can be read at a time."
        )
    has_alpha = any(ALPHA in tensors for tensors in groups.values())
    return layers, _spelling(files, list(groups), has_alpha=has_alpha)


def _layer(
    settings: Settings, name: str, tensors: dict[str, Numbers], spelled: dict[str, str]
) -> LayerWeights:
    alpha = tensors.pop(ALPHA, None)
    by_column = check_layer(name, tensors, spelled)
    shapes = {role: value.shape for role, value in tensors.items()}
    rank = product_rank(shapes)
    strength = settings.strength(_as_trained(name))
    if strength is None:
        # Of whole factors there is no rank: the others take them as they are, whatever alpha says.
        own = _scalar(alpha, spelled.get(ALPHA, "")) if alpha is not None and rank else rank or 1
        strength = Strength(own, rank or 1)
    elif alpha is not None and rank:
        strength = _agreed(strength, _scalar(alpha, spelled[ALPHA]), spelled[ALPHA], rank)
    if rank and strength.rank != rank:
        raise AdapterError(
            f"the matrices of {name[:120]} do not go together: {told(tensors, spelled)}, but the "
            f"configuration says rank {strength.rank:g}."
        )
    weights = LayerWeights(tensors, strength, by_column)
    if settings.values:
        _check_kind(settings, name, weights)
    for role, value in tensors.items():
        _refuse_infinite(value, spelled[role])
    return weights


def _as_trained(layer: str) -> str:
    """A layer as the model that was trained calls it: what patterns are written for."""
    for wrapper in ("base_model.model.", "transformer."):
        layer = layer.removeprefix(wrapper)
    return layer


def _check_kind(settings: Settings, name: str, weights: LayerWeights) -> None:
    wanted = settings.kind == "LOKR", bool(settings.values.get("use_dora"))
    if wanted != (weights.is_kronecker, weights.has_magnitude):
        says = "LoKr" if wanted[0] else "DoRA" if wanted[1] else "no DoRA"
        raise AdapterError(
            f"the matrices of {name[:120]} do not go together with the configuration, which says "
            f"{says}."
        )


def _agreed(strength: Strength, alpha: float, name: str, rank: int) -> Strength:
    """The strength where both a configuration and a tensor tell it; they must mean the same."""
    own = Strength(alpha, rank)
    if abs(own.scale - strength.scale) > 1e-3 * abs(strength.scale):
        raise AdapterError(
            f"{name[:120]} says that the layer counts {own.scale:g}, and the configuration says "
            f"{strength.scale:g}: remove the one that is wrong."
        )
    return strength


def _scalar(value: Numbers, name: str) -> float:
    numbers = value.read().reshape(-1)
    number = float(numbers[0]) if numbers.size == 1 else 0.0
    if not is_strength(number):
        raise AdapterError(f"{name[:120]} is no number above 0, but it says how strong a layer is.")
    return number


def _refuse_infinite(value: Numbers, name: str) -> None:
    import numpy as np

    if not np.isfinite(value.read()).all():
        raise AdapterError(
            f"it holds values that are no numbers (NaN or infinite) in {name[:120]}: the training "
            "diverged. Take an earlier checkpoint."
        )


def _spelling(files: AdapterFiles, layers: list[str], *, has_alpha: bool) -> str:
    for prefix, spelling in (
        ("lycoris_", "lycoris"),
        ("lora_", "kohya"),
        ("diffusion_model.", "comfyui"),
        ("transformer.", "diffusers"),
    ):
        if layers[0].startswith(prefix):
            return spelling
    if files.config is None and (has_alpha or not layers[0].startswith("base_model.")):
        return "comfyui"
    return "acestep" if any(is_original(layer) for layer in layers) else "peft"
