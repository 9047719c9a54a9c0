"""Tracks → latents and encoded prompts on disk, once: a step needs neither VAE nor text encoder.

An entry is named by what it was made from (audio or prompt, and model), so folders can be shared by
any number of runs, a changed caption encodes no audio again, and an interrupted pass goes on where
it was.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from luthier.audio.decode import read_audio
from luthier.dataset.build import load_rows
from luthier.errors import AudioError, LuthierError, PathError, TrainingError
from luthier.files import atomic_file, make_folder, read_json, sha256_of, write_json
from luthier.music.denoiser import encode_conditions
from luthier.music.model import MANIFEST_NAME, MusicModel
from luthier.music.request import request_from
from luthier.music.spec import ModelSpec
from luthier.music.templates import instruction_for, lyrics_text, metas_text, prompt_text
from luthier.progress import SILENT, Display

_TILE_S, _OVERLAP_S = 30, 2  # a long track is encoded in tiles; what overlaps is thrown away
_NAMED = 3  # how many refused tracks a message describes


@dataclass(frozen=True)
class Entry:
    """A track that can be trained on."""

    key: str  # the track's name
    latents: Path  # safetensors: latents (T, C)
    conditions: Path  # safetensors: states (L, D), mask (L,)
    frames: int  # T
    bar_frames: float  # latent frames of a bar; 0 where the tempo is not known

    def to_json(self) -> dict[str, Any]:
        """Plain values; `entry_from` reads them."""
        return vars(self) | {"latents": self.latents.name, "conditions": self.conditions.name}


@dataclass(frozen=True)
class Refused:
    """A track that cannot be trained on, and why."""

    key: str
    reason: str


def cache_features(
    dataset_dir: Path,
    split: str,
    model: MusicModel,
    cache_dir: Path,
    *,
    identity: str,
    crop_s: float,
    display: Display = SILENT,
) -> Path:
    """Encode what is not encoded yet; return the index of the split, for `load_features`.

    Args:
        dataset_dir: a data set that `build_dataset` wrote.
        split: "train" or "validation".
        model: on the device that is to encode.
        cache_dir: where entries and index go; entries that are whole stay.
        identity: of the model: `model_identity(folder)`.
        crop_s: length of the crops, which the prompts name as the duration (as in playing).

    Raises:
        TrainingError: tracks there are, but none can be trained on.
    """
    rows = load_rows(dataset_dir, split)
    entries: list[Entry] = []
    refused: list[Refused] = []
    make_folder(cache_dir)
    with display.task(f"cache {split}", len(rows)) as task:
        for row in rows:
            try:
                entries.append(_entry(row, model, cache_dir, identity, crop_s))
            except (AudioError, PathError, TrainingError) as error:
                refused.append(Refused(row["keys"], str(error)))
            task.advance(note=row["keys"])
    if rows and not entries:
        raise TrainingError(_refusal(refused, len(rows), split))
    for track in refused:
        display.say(f"left out: {track.key}: {track.reason}")
    content = {
        "identity": identity,
        "crop_s": crop_s,
        "entries": [entry.to_json() for entry in entries],
        "refused": [vars(track) for track in refused],
    }
    digest = _digest(repr(content))
    index = cache_dir / f"{split}-{digest[:16]}.json"
    write_json(index, content)
    return index


def load_features(index: Path) -> list[Entry]:
    """The tracks of an index that `cache_features` wrote."""
    rows = read_json(index)["entries"]
    names = ("latents", "conditions")
    return [Entry(**{k: index.parent / v if k in names else v for k, v in r.items()}) for r in rows]


def model_identity(folder: Path) -> str:
    """What tells one model from another: the sha256 of its manifest, which names all its files."""
    return sha256_of(folder / MANIFEST_NAME)


def prompts_of(row: Mapping[str, Any], seconds: float) -> tuple[str, str]:
    """Text prompt and lyric prompt of a track, word for word as a request for it gets them."""
    bpm = _bpm(row)
    asked = request_from(
        {
            "prompt": row["caption"],
            "lyrics": row.get("lyrics") or "",
            "instrumental": bool(row.get("instrumental")),
            "vocal_language": row.get("language") or "en",
            "bpm": None if bpm is None else round(bpm),
            "key": row.get("keyscale"),
            "time_signature": row.get("timesignature"),
        }
    )
    metas = metas_text(
        bpm=asked.bpm, time_signature=asked.time_signature, key=asked.key, duration_s=seconds
    )
    text = prompt_text(asked.prompt, metas, instruction=instruction_for("text2music"))
    return text, lyrics_text(asked.sung, asked.vocal_language)


def _entry(
    row: Mapping[str, Any], model: MusicModel, folder: Path, identity: str, crop_s: float
) -> Entry:
    spec = model.spec
    latents = folder / f"latents-{_digest(row['sha256'], identity)}.safetensors"
    _ensure(latents, lambda: {"latents": _encode_track(row, model)})
    with safe_open(latents, "pt") as file:
        frames = int(file.get_slice("latents").get_shape()[0])
    if frames < spec.patch_size:
        raise TrainingError(f"{row['filename']} is too short: {frames} latent frames.")
    seconds = min(crop_s, frames / spec.frames_per_second)
    try:
        text, lyrics = prompts_of(row, seconds)
    except LuthierError as error:
        raise TrainingError(f"its labels are not valid: {error}") from error
    conditions = folder / f"conditions-{_digest(text, lyrics, identity)}.safetensors"
    _ensure(conditions, lambda: _encode_prompt(model, text, lyrics))
    return Entry(row["keys"], latents, conditions, frames, _bar_frames(row, spec))


def _bpm(row: Mapping[str, Any]) -> float | None:
    """The tempo of a row; None where it is not said (empty, 0 or no number)."""
    bpm = row.get("bpm")
    return float(bpm) if bpm and math.isfinite(bpm) else None


def _bar_frames(row: Mapping[str, Any], spec: ModelSpec) -> float:
    bpm, beats = _bpm(row), str(row.get("timesignature") or "").split("/")[0]
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


def _encode_track(row: Mapping[str, Any], model: MusicModel) -> Tensor:
    path = Path(row["filename"])
    if sha256_of(path) != row["sha256"]:
        raise PathError(f"{path} has changed since the data set was built: build it again.")
    audio, _ = read_audio(path, sample_rate=model.spec.sample_rate, channels=2)
    samples = torch.from_numpy(np.clip(audio, -1.0, 1.0))
    return encode_audio(model.vae, samples, model.spec)


def encode_audio(vae: Any, audio: Tensor, spec: ModelSpec) -> Tensor:
    """Audio (2, n) → latents (T, C) on the CPU, in tiles, with T = the frames that are full."""
    frames = audio.shape[1] // spec.hop_length
    tile, overlap = (round(s * spec.frames_per_second) for s in (_TILE_S, _OVERLAP_S))
    device = next(vae.parameters()).device
    parts = []
    with torch.no_grad():
        for start in range(0, frames, tile):
            first, last = max(0, start - overlap), min(frames, start + tile + overlap)
            window = audio[None, :, first * spec.hop_length : last * spec.hop_length].to(device)
            latents = vae.encode(window)[0].T.float().cpu()
            parts.append(latents[start - first : min(start + tile, frames) - first])
    return torch.cat(parts) if parts else torch.zeros(0, spec.latent_channels)


def _encode_prompt(model: MusicModel, text: str, lyrics: str) -> dict[str, Tensor]:
    with torch.no_grad():
        states, mask = encode_conditions(model, [text], [lyrics])
    return {"states": states[0].float().cpu(), "mask": mask[0].float().cpu()}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _refusal(refused: Sequence[Refused], count: int, split: str) -> str:
    told = " ".join(f"{track.key}: {track.reason}" for track in refused[:_NAMED])
    return f"none of the {count} tracks of the {split} split can be trained on. {told}"
