"""Tracks → latents and encoded prompts on disk, once: a step needs neither VAE nor text encoder.

An entry's key says what it was made from (audio or prompt, model, manner of encoding), so data sets
and runs can share a folder, a changed caption encodes no audio again, and an interrupted pass goes
on where it was. There are two passes, so that autoencoder and text encoder are never in memory
together, and neither is loaded when everything is there already. `shards` keeps the entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.errors import AudioError, LuthierError, PathError, TrainingError
from luthier.files import read_json, sha256_of, write_json
from luthier.lock import sole_user
from luthier.music.dataset.build import load_rows
from luthier.music.spec import ModelSpec
from luthier.music.training.feature_encoder import Encoder
from luthier.music.training.training_pairs import Planned, Sound, bpm_of, prompts_of, variants_of
from luthier.progress import SILENT, Display
from luthier.training.shards import SHARDS, Shards, Stored, entries_of, remove_unfinished

_INDEXES = "indexes"
_NAMED = 3  # how many refused tracks a message describes


@dataclass(frozen=True)
class Variant:
    """One way to train on a track."""

    task: str
    target: Stored  # latents (T, C) of what is made
    source: Stored | None  # the same of what is shown; None: silence
    conditions: Stored  # states (L, D), mask (L,)

    @property
    def stored(self) -> list[Stored]:
        """All that it needs of the cache."""
        return [s for s in (self.target, self.source, self.conditions) if s is not None]

    def to_json(self) -> dict[str, Any]:
        """Plain values, shards by name."""
        return {k: v.to_json() if isinstance(v, Stored) else v for k, v in vars(self).items()}


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
    """A row on its way to an entry: its variants, and the keys of what they need."""

    row: Mapping[str, Any]
    planned: list[Planned]
    sounds: dict[Sound, str]
    prompts: list[str] = field(default_factory=list)  # a variant
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

    Where another process encodes into `cache_dir`, it is waited for.

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

    def tell() -> None:
        display.say(f"another run encodes into {cache_dir}: waiting for it")

    with sole_user(cache_dir, before_waiting=tell):
        work = _Work(encoder, Shards(cache_dir, display), crop_s)
        entries, refused = work.passes(rows, tasks, split, display)
        if rows and not entries:
            raise TrainingError(_refusal(refused, len(rows), split))
        for track in refused:
            display.say(f"left out: {track.key}: {track.reason}")
        content = {
            "identity": encoder.model.identity,
            "crop_s": crop_s,
            "shards": sorted({s.shard.name for e in entries for v in e.variants for s in v.stored}),
            "entries": [entry.to_json() for entry in entries],
            "refused": [vars(track) for track in refused],
        }
        indexes = cache_dir / _INDEXES
        index = indexes / f"{split}-{_digest(repr(content))[:16]}.json"
        write_json(index, content)
        remove_unfinished(indexes)
        named = (read_json(path)["shards"] for path in indexes.glob("[!.]*.json"))
        work.shards.tidy({shard for shards in named for shard in shards})
    return index


def load_features(index: Path) -> list[Entry]:
    """The tracks of an index that `cache_features` wrote."""
    content, folder = read_json(index), index.parent.parent / SHARDS
    packed = {name: entries_of(folder / name) for name in content["shards"]}

    def variant(row: Mapping[str, Any]) -> Variant:
        found = [
            place and packed[place["shard"]][place["key"]]
            for place in (row["target"], row["source"], row["conditions"])
        ]
        return Variant(row["task"], *found)

    return [
        Entry(**row | {"variants": tuple(map(variant, row["variants"]))})
        for row in content["entries"]
    ]


class _Work:
    """The two passes over the tracks of a split."""

    def __init__(self, encoder: Encoder, shards: Shards, crop_s: float) -> None:
        self.encoder, self.shards, self.crop_s = encoder, shards, crop_s

    def passes(
        self, rows: Sequence[Mapping[str, Any]], tasks: Sequence[str], split: str, display: Display
    ) -> tuple[list[Entry], list[Refused]]:
        """Every track that can be trained on, and the others."""
        refused: list[Refused] = []
        tracks = _passed(rows, lambda row: self.hear(row, tasks), refused, display, f"hear {split}")
        self.shards.pack()
        self.encoder.release()
        tracks = _passed(tracks, self.read, refused, display, f"read {split}")
        self.shards.pack()
        self.encoder.release()
        return [self.entry(track) for track in tracks], refused

    def hear(self, row: Mapping[str, Any], tasks: Sequence[str]) -> _Track:
        """First pass: latents of everything that the track's variants need."""
        planned = variants_of(row, tasks)
        wanted = {s for p in planned for s in (p.target, p.source) if s}
        track = _Track(row, planned, {s: self._key(s, row) for s in sorted(wanted, key=repr)})
        for sound, key in track.sounds.items():
            self.shards.ensure(key, lambda sound=sound: {"latents": self.encoder.latents(sound)})  # type: ignore[misc]
        return track

    def read(self, track: _Track) -> _Track:
        """Second pass: the encoded prompt of each variant."""
        spec, row = self.encoder.spec, track.row
        track.frames = min(self._found(key).length("latents") for key in track.sounds.values())
        if track.frames < spec.patch_size:
            raise TrainingError(f"{row['filename']} is too short: {track.frames} latent frames.")
        seconds = min(self.crop_s, track.frames / spec.frames_per_second)
        for planned in track.planned:
            try:
                text, lyrics = prompts_of(row, seconds, planned.task, planned.tracks)
            except LuthierError as error:
                raise TrainingError(f"its labels are not valid: {error}") from error
            key = _digest("conditions", text, lyrics, self.encoder.identity)
            self.shards.ensure(key, lambda t=text, w=lyrics: self.encoder.conditions(t, w))  # type: ignore[misc]
            track.prompts.append(key)
        return track

    def entry(self, track: _Track) -> Entry:
        """What became of a track."""
        variants = []
        for planned, prompt in zip(track.planned, track.prompts, strict=True):
            target = self._found(track.sounds[planned.target])
            source = self._found(track.sounds[planned.source]) if planned.source else None
            variants.append(Variant(planned.task, target, source, self._found(prompt)))
        row, bar = track.row, _bar_frames(track.row, self.encoder.spec)
        return Entry(row["keys"], row["caption"], track.frames, bar, tuple(variants))

    def _key(self, sound: Sound, row: Mapping[str, Any]) -> str:
        """What tells a sound from others: its files' contents, and what encodes them."""
        main = Path(row["filename"])
        digests = []
        for path in sound.files:
            digest = sha256_of(path)
            if path == main and digest != row["sha256"]:
                raise PathError(f"{path} has changed since the data set was built: build it again.")
            digests.append(digest)
        # Codes need more of the model than the autoencoder, which models can share.
        made_by = self.encoder.identity if sound.as_codes else self.encoder.vae_identity
        return _digest("latents", *sorted(digests), made_by)

    def _found(self, key: str) -> Stored:
        stored = self.shards.find(key)
        if stored is None:
            raise TrainingError("the feature cache was damaged while it was written: start again.")
        return stored


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


def _bar_frames(row: Mapping[str, Any], spec: ModelSpec) -> float:
    bpm, beats = bpm_of(row), str(row.get("timesignature") or "").split("/")[0]
    if bpm is None or not beats.isdigit() or int(beats) == 0:
        return 0.0
    return float(60.0 / bpm * int(beats) * spec.frames_per_second)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _refusal(refused: Sequence[Refused], count: int, split: str) -> str:
    told = " ".join(f"{track.key}: {track.reason}" for track in refused[:_NAMED])
    return f"none of the {count} tracks of the {split} split can be trained on. {told}"
