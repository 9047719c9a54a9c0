"""Tracks → latents and encoded prompts on disk, once: a step needs neither VAE nor text encoder.

An entry is named by what it was made from (audio or prompt, and model), so folders can be shared by
any number of runs, a changed caption encodes no audio again, and an interrupted pass goes on where
it was. There are two passes, so that autoencoder and text encoder are never in memory together, and
neither is loaded when everything is there already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from luthier.dataset.build import load_rows
from luthier.errors import AudioError, LuthierError, PathError, TrainingError
from luthier.files import atomic_file, make_folder, read_json, sha256_of, write_json
from luthier.music.spec import ModelSpec
from luthier.progress import SILENT, Display
from luthier.training.encode import Encoder
from luthier.training.variants import Planned, Sound, bpm_of, prompts_of, variants_of

_NAMED = 3  # how many refused tracks a message describes


@dataclass(frozen=True)
class Variant:
    """One way to train on a track."""

    task: str
    target: Path  # safetensors: latents (T, C) of what is made
    source: Path | None  # the same of what is shown; None: silence
    conditions: Path  # safetensors: states (L, D), mask (L,)

    def to_json(self) -> dict[str, Any]:
        """Plain values, files by name."""
        return {k: v.name if isinstance(v, Path) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Entry:
    """A track that can be trained on."""

    key: str  # the track's name
    caption: str
    frames: int  # latent frames that all its variants have
    bar_frames: float  # latent frames of a bar; 0 where the tempo is not known
    variants: tuple[Variant, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; `load_features` reads them."""
        return vars(self) | {"variants": [variant.to_json() for variant in self.variants]}


@dataclass(frozen=True)
class Refused:
    """A track that cannot be trained on, and why."""

    key: str
    reason: str


@dataclass
class _Track:
    """A row on its way to an entry."""

    row: Mapping[str, Any]
    planned: list[Planned]
    latents: dict[Sound, Path] = field(default_factory=dict)
    frames: int = 0


def cache_features(
    dataset_dir: Path,
    split: str,
    encoder: Encoder,
    cache_dir: Path,
    *,
    crop_s: float,
    tasks: Sequence[str] = ("text2music",),
    display: Display = SILENT,
) -> Path:
    """Encode what is not encoded yet; return the index of the split, for `load_features`.

    Args:
        dataset_dir: a data set that `build_dataset` wrote.
        split: "train" or "validation".
        encoder: of the model to train.
        cache_dir: where entries and index go; entries that are whole stay.
        crop_s: length of the crops, which the prompts name as the duration (as in playing).
        tasks: what is to be trained for.

    Raises:
        TrainingError: tracks there are, but none can be trained on.
    """
    rows = load_rows(dataset_dir, split)
    make_folder(cache_dir)
    work = _Work(encoder, cache_dir, crop_s)
    refused: list[Refused] = []
    tracks = _passed(rows, lambda row: work.heard(row, tasks), refused, display, f"hear {split}")
    encoder.release()
    entries = _passed(tracks, work.read, refused, display, f"read {split}")
    encoder.release()
    if rows and not entries:
        raise TrainingError(_refusal(refused, len(rows), split))
    for track in refused:
        display.say(f"left out: {track.key}: {track.reason}")
    content = {
        "identity": encoder.model.identity,
        "crop_s": crop_s,
        "entries": [entry.to_json() for entry in entries],
        "refused": [vars(track) for track in refused],
    }
    index = cache_dir / f"{split}-{_digest(repr(content))[:16]}.json"
    write_json(index, content)
    return index


def load_features(index: Path) -> list[Entry]:
    """The tracks of an index that `cache_features` wrote."""

    def path(name: str | None) -> Path | None:
        return None if name is None else index.parent / name

    entries = []
    for row in read_json(index)["entries"]:
        variants = tuple(
            Variant(
                variant["task"],
                index.parent / variant["target"],
                path(variant["source"]),
                index.parent / variant["conditions"],
            )
            for variant in row["variants"]
        )
        entries.append(Entry(**row | {"variants": variants}))
    return entries


def _passed(
    items: Sequence[Any],
    step: Callable[[Any], Any],
    refused: list[Refused],
    display: Display,
    name: str,
) -> list[Any]:
    """`step` of each item; what raises is refused."""
    done = []
    with display.task(name, len(items)) as task:
        for item in items:
            key = (item.row if isinstance(item, _Track) else item)["keys"]
            try:
                done.append(step(item))
            except (AudioError, PathError, TrainingError) as error:
                refused.append(Refused(key, str(error)))
            task.advance(note=key)
    return done


class _Work:
    """The two passes over a track."""

    def __init__(self, encoder: Encoder, folder: Path, crop_s: float) -> None:
        self.encoder, self.folder, self.crop_s = encoder, folder, crop_s
        self.identity = encoder.model.identity

    def heard(self, row: Mapping[str, Any], tasks: Sequence[str]) -> _Track:
        """First pass: latents of everything that the track's variants need."""
        track = _Track(row, variants_of(row, tasks))
        wanted = {s for planned in track.planned for s in (planned.target, planned.source) if s}
        for sound in sorted(wanted, key=repr):
            path = self.folder / f"latents-{self._name(sound, row)}.safetensors"
            _ensure(path, lambda sound=sound: {"latents": self.encoder.latents(sound)})  # type: ignore[misc]
            track.latents[sound] = path
        track.frames = min(_frames(path) for path in track.latents.values())
        if track.frames < self.encoder.spec.patch_size:
            raise TrainingError(f"{row['filename']} is too short: {track.frames} latent frames.")
        return track

    def read(self, track: _Track) -> Entry:
        """Second pass: the encoded prompt of each variant."""
        spec, row = self.encoder.spec, track.row
        seconds = min(self.crop_s, track.frames / spec.frames_per_second)
        variants = []
        for planned in track.planned:
            try:
                text, lyrics = prompts_of(row, seconds, planned.task, planned.tracks)
            except LuthierError as error:
                raise TrainingError(f"its labels are not valid: {error}") from error
            path = self.folder / f"conditions-{_digest(text, lyrics, self.identity)}.safetensors"
            _ensure(path, lambda t=text, w=lyrics: self.encoder.conditions(t, w))  # type: ignore[misc]
            source = track.latents[planned.source] if planned.source else None
            variants.append(Variant(planned.task, track.latents[planned.target], source, path))
        bar = _bar_frames(row, spec)
        return Entry(row["keys"], row["caption"], track.frames, bar, tuple(variants))

    def _name(self, sound: Sound, row: Mapping[str, Any]) -> str:
        """What tells a sound from others: its files' contents, and the model."""
        main = Path(row["filename"])
        digests = []
        for path in sound.files:
            digest = sha256_of(path)
            if path == main and digest != row["sha256"]:
                raise PathError(f"{path} has changed since the data set was built: build it again.")
            digests.append(digest)
        codes = ["codes"] if sound.as_codes else []
        return _digest(*sorted(digests), *codes, self.identity)


def _frames(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return int(file.get_slice("latents").get_shape()[0])


def _bar_frames(row: Mapping[str, Any], spec: ModelSpec) -> float:
    bpm, beats = bpm_of(row), str(row.get("timesignature") or "").split("/")[0]
    if bpm is None or not beats.isdigit() or int(beats) == 0:
        return 0.0
    return float(60.0 / bpm * int(beats) * spec.frames_per_second)


def _ensure(path: Path, make: Callable[[], dict[str, Tensor]]) -> None:
    """Write an entry unless it is there and whole."""
    if _is_whole(path):
        return
    tensors = {name: value.contiguous() for name, value in make().items()}
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise TrainingError(f"the model makes {name} that are no numbers (NaN) of it.")
    with atomic_file(path) as temporary:
        # Python writes the bytes: of a full disk safetensors tells in an error of its own.
        temporary.write_bytes(serialised(tensors, metadata={"sha256": _content(tensors)}))


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return (file.metadata() or {}).get("sha256") == _content(tensors)
    except (SafetensorError, OSError):
        return False


def _content(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name}{tuple(tensors[name].shape)}".encode())
        total.update(tensors[name].numpy().tobytes())
    return total.hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _refusal(refused: Sequence[Refused], count: int, split: str) -> str:
    told = " ".join(f"{track.key}: {track.reason}" for track in refused[:_NAMED])
    return f"none of the {count} tracks of the {split} split can be trained on. {told}"
