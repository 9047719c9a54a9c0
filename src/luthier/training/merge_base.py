"""A base model for merging: which tensors go to which file, and the files that stay as they are.

A model in luthier's or diffusers' layout keeps its shards. The original layout of ACE-Step 1.5
becomes diffusers': its tensors are sorted into a folder a component, under diffusers' names, so
that `AceStepPipeline.from_pretrained` loads the result as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from luthier.errors import ModelError
from luthier.files import make_folder, read_json, write_json
from luthier.music.torch.diffusers_layout import component_folder, write_pipeline_files
from luthier.music.torch.model_folder import CLASSES, MANIFEST_NAME, ModelFolder, original_silence
from luthier.music.torch.original_layout import diffusers_name
from luthier.music.torch.weight_files import INDEX_SUFFIX, safetensors_files
from luthier.training.tensor_file import Slot, read_header, type_name

DENOISER = "transformer"
WEIGHTS_STEM = "diffusion_pytorch_model"
_NOT_COPIED = (MANIFEST_NAME, "run.json", "README.md")
# Other copies of the denoiser's weights would be the ones before merging.
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".msgpack", ".h5")
# What the original keeps in one file; and what it has beside it.
_SPLIT = ("transformer", "condition_encoder", "audio_tokenizer", "audio_detokenizer")
_BESIDE = {
    "vae": ("*.json",),
    "text_encoder": ("config.json", "generation_config.json", f"*{INDEX_SUFFIX}"),
    "tokenizer": ("tok*.json", "special_*.json", "added_tokens.json", "vocab.*", "merges.txt"),
}  # fmt: skip


@dataclass(frozen=True)
class Shard:
    """A safetensors file of the result."""

    component: str  # the folder that it goes to
    name: str
    slots: tuple[Slot, ...]

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(slot.size for slot in self.slots)


def shards_of(base: ModelFolder) -> list[Shard]:
    """The files to write, with every tensor as the base has it.

    Raises:
        ModelError: there are no weights in safetensors, or shards are missing or damaged.
    """
    if base.layout == "original":
        return list(_converted(base))
    shards = []
    for path in _weight_files(base.part_folder(DENOISER)):
        slots = tuple(Slot(name, r.dtype, r) for name, r in read_header(path).items())
        shards.append(Shard(DENOISER, path.name, slots))
    return shards


def write_index(folder: Path, shards: Sequence[Shard]) -> None:
    """The index of components that have several shards: which tensor is where, and the size."""
    for component in {shard.component for shard in shards}:
        own = [shard for shard in shards if shard.component == component]
        if len(own) == 1:
            continue
        index = {
            "metadata": {"total_size": sum(shard.size for shard in own)},
            "weight_map": {slot.name: shard.name for shard in own for slot in shard.slots},
        }
        write_json(folder / component / f"{WEIGHTS_STEM}.safetensors{INDEX_SUFFIX}", index)


def rest_of(base: ModelFolder) -> dict[str, Path]:
    """Every other file of the result by its place, and where it is copied from."""
    if base.layout == "original":
        beside = {
            component: [p for pattern in patterns for p in sorted(place.glob(pattern))]
            + ([] if component == "tokenizer" else safetensors_files(place))
            for component, patterns in _BESIDE.items()
            for place in [base.part_folder(component)]
        }
        return {f"{name}/{path.name}": path for name, found in beside.items() for path in found}
    found = {}
    for path in sorted(base.folder.rglob("*")):
        place = path.relative_to(base.folder)
        hidden = any(part.startswith(".") for part in place.parts)
        old = place.parts[0] == DENOISER and (
            path.suffix in _WEIGHT_SUFFIXES or path.name.endswith(INDEX_SUFFIX)
        )
        if path.is_file() and not hidden and not old and place.as_posix() not in _NOT_COPIED:
            found[place.as_posix()] = path
    return found


def write_rest(base: ModelFolder, folder: Path) -> None:
    """Copy what stays as it is; write the configurations that diffusers' layout has besides."""
    for place, path in rest_of(base).items():
        make_folder((folder / place).parent)
        shutil.copyfile(path, folder / place)
    if base.layout != "original":
        return
    from diffusers import __version__

    classes = {"text_encoder": "Qwen3Model"}
    for name in _SPLIT:
        kind, place = CLASSES[name].__name__, component_folder(name)
        classes[name] = kind
        config = {"_class_name": kind, "_diffusers_version": __version__} | base.config(name)
        make_folder(folder / place)
        write_json(folder / place / "config.json", config)
    vae = {"_class_name": "AutoencoderOobleck"} | read_json(folder / "vae" / "config.json")
    write_json(folder / "vae" / "config.json", vae)
    write_pipeline_files(folder, classes | {"vae": vae["_class_name"]})


def _weight_files(folder: Path) -> list[Path]:
    files = safetensors_files(folder)
    if not files:
        raise ModelError(f"{folder} has no weights in safetensors: convert the model first.")
    return files


def _converted(base: ModelFolder) -> Iterator[Shard]:
    """The original's tensors, sorted into components; as many shards of each as it has files."""
    parts: dict[str, list[list[Slot]]] = {name: [] for name in _SPLIT}
    seen: dict[str, Path] = {}
    for path in _weight_files(base.folder):
        slots: dict[str, list[Slot]] = {}
        for name, record in read_header(path).items():
            if name in seen:
                raise ModelError(f"{base.folder}: {name} is both in {seen[name]} and in {path}.")
            seen[name] = path
            place = diffusers_name(name)
            if place is not None:
                slots.setdefault(place[0], []).append(Slot(place[1], record.dtype, record))
        for component, own in slots.items():
            parts[component].append(own)
    silence = original_silence(base.folder)
    for component, files in parts.items():
        if not files:
            raise ModelError(f"{base.folder} holds no tensors of the {component}.")
        if component == "condition_encoder":
            files[0].append(Slot("silence_latent", type_name(silence), silence))
        for number, own in enumerate(files, start=1):
            several = f"-{number:05d}-of-{len(files):05d}" if len(files) > 1 else ""
            name = f"{WEIGHTS_STEM}{several}.safetensors"
            yield Shard(component_folder(component), name, tuple(own))


def with_dtype(shard: Shard, dtypes: Mapping[str, str]) -> Shard:
    """The shard with other types for the tensors named in `dtypes`."""
    slots = (replace(slot, dtype=dtypes.get(slot.name, slot.dtype)) for slot in shard.slots)
    return replace(shard, slots=tuple(slots))
