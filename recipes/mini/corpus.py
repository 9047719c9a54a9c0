"""Render composed music and encode it: shards of latents with exact labels, ready to train on.

A shard is `latents-NNN.npy` (clips, 5, frames, channels) float16 with `labels-NNN.json`; a shard
that exists is not made again. Of each clip there are the mix, two of its tracks, and the mix
without either: `VIEWS`.
"""

from __future__ import annotations

import json
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.files import atomic_file, write_json
from luthier.progress import Display

from .compose import Score, caption, compose
from .layers import Part, drawn_pair, parts_of, summed
from .render import Synth

CLIP_S = 12.0
HELD_OUT_SEED = 10_000_000  # seeds from here on are never trained on
VIEWS = ("mix", "first", "second", "without first", "without second")
MIX, ALONE, WITHOUT = 0, (1, 2), (3, 4)


def render_clip(synth: Synth, seed: int, samples: int) -> tuple[Score, list[Part]]:
    """Compose and render one clip of exactly `samples` samples: its score and its tracks."""
    score = compose(seed, duration_s=CLIP_S)
    return score, parts_of(score, synth.render(score), samples, seed)


def labels_of(score: Score) -> dict[str, Any]:
    """The exact labels of a clip, with three captions to draw from."""
    rng = random.Random(score.seed)
    return {
        "seed": score.seed,
        "bpm": score.bpm,
        "keyscale": score.key,
        "timesignature": score.metre,
        "style": score.style,
        "mood": score.mood,
        "instruments": list(score.instruments),
        "captions": [caption(score, rng) for _ in range(3)],
    }


def layer_labels(parts: list[Part], pair: tuple[int, int]) -> dict[str, Any]:
    """Which tracks a clip has, and which two of them were drawn: names and instruments."""
    return {
        "tracks": [part.track for part in parts],
        "layers": [
            {"track": parts[i].track, "instruments": list(parts[i].instruments)} for i in pair
        ],
    }


def views_of(parts: list[Part], pair: tuple[int, int]) -> list[NDArray[np.float32]]:
    """The audio of `VIEWS`, each (2, samples)."""
    without = [[part for j, part in enumerate(parts) if j != i] for i in pair]
    return [summed(parts), *(parts[i].audio for i in pair), *(summed(rest) for rest in without)]


@dataclass(frozen=True)
class Shard:
    """What one worker makes: `count` clips from `first_seed` on, encoded by the autoencoder in
    `codec`.
    """

    index: int
    first_seed: int
    count: int
    codec: Path
    output: Path


def make_shard(shard: Shard) -> int:
    """Render and encode one shard; return its index."""
    import torch

    from luthier.music.torch.autoencoder import autoencoder_from

    labels_path = shard.output / f"labels-{shard.index:03d}.json"
    if labels_path.is_file():
        return shard.index
    torch.set_num_threads(1)
    codec = autoencoder_from(shard.codec)
    rate, hop = codec.config.sample_rate, codec.config.hop_length
    frames = int(CLIP_S * rate) // hop
    synth = Synth(rate)
    shape = (shard.count, len(VIEWS), frames, codec.config.latent_channels)
    latents = np.zeros(shape, np.float16)
    labels = []
    for i in range(shard.count):
        score, parts = render_clip(synth, shard.first_seed + i, frames * hop)
        pair = drawn_pair(parts, random.Random(f"pair {score.seed}"))
        for view, audio in enumerate(views_of(parts, pair)):
            with torch.no_grad():
                encoded = codec.encode(torch.from_numpy(audio)[None])[0]
            latents[i, view] = encoded.T.numpy().astype(np.float16)
        labels.append(labels_of(score) | layer_labels(parts, pair))
    with atomic_file(shard.output / f"latents-{shard.index:03d}.npy") as path:
        np.save(path, latents)
    write_json(labels_path, labels)
    return shard.index


def make_corpus(codec: Path, output: Path, clips: int, workers: int, display: Display) -> None:
    """Make all shards of a corpus of `clips` clips with `workers` processes."""
    size = 125
    output.mkdir(parents=True, exist_ok=True)
    shards = [
        Shard(i, i * size, min(size, clips - i * size), codec, output)
        for i in range(-(-clips // size))
    ]
    with ProcessPoolExecutor(workers) as pool, display.task("corpus", len(shards)) as task:
        for index in pool.map(make_shard, shards):
            task.advance(note=f"shard {index}")


@dataclass(frozen=True)
class Corpus:
    """All finished shards, left on the disk: `clip(i)` reads one clip's latents."""

    shards: list[NDArray[np.float16]]  # each (clips, views, frames, channels)
    places: list[tuple[int, int]]  # of each clip: its shard, and where in it
    labels: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """Latent channels."""
        return int(self.shards[0].shape[-1])

    def clip(self, index: int) -> NDArray[np.float16]:
        """The views (5, frames, channels) of one clip."""
        shard, place = self.places[index]
        return self.shards[shard][place]

    def mixes(self, count: int) -> NDArray[np.float32]:
        """The first `count` mixes (count, frames, channels)."""
        some = range(min(count, len(self)))
        return np.stack([self.clip(i)[MIX] for i in some]).astype(np.float32)


def load_corpus(folder: Path) -> Corpus:
    """Map all finished shards into memory."""
    paths = sorted(folder.glob("labels-*.json"))
    rows = [json.loads(path.read_text()) for path in paths]
    shards = [
        np.load(p.with_name(p.name.replace("labels", "latents")).with_suffix(".npy"), mmap_mode="r")
        for p in paths
    ]
    places = [(shard, i) for shard, found in enumerate(rows) for i in range(len(found))]
    return Corpus(shards, places, [row for found in rows for row in found])
