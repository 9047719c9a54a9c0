"""Render composed music and encode it: shards of latents with exact labels, ready to train on.

A shard is `latents-NNN.npy` (clips, frames, channels) float16 with `labels-NNN.json`; a shard that
exists is not made again.
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
from .render import Synth, mix

CLIP_S = 12.0
HELD_OUT_SEED = 10_000_000  # seeds from here on are never trained on


def render_clip(synth: Synth, seed: int, samples: int) -> tuple[Score, NDArray[np.float32]]:
    """Compose and render one clip of exactly `samples` samples: its score and (2, samples)."""
    score = compose(seed, duration_s=CLIP_S)
    audio = mix(synth.render(score))
    return score, audio[:, :samples]


def labels_of(score: Score) -> dict[str, Any]:
    """The exact labels of a clip, with two captions to draw from."""
    rng = random.Random(score.seed)
    return {
        "seed": score.seed,
        "bpm": score.bpm,
        "keyscale": score.key,
        "timesignature": score.metre,
        "style": score.style,
        "instruments": list(score.instruments),
        "captions": [caption(score, rng) for _ in range(3)],
    }


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

    from luthier.music.autoencoder import autoencoder_from

    labels_path = shard.output / f"labels-{shard.index:03d}.json"
    if labels_path.is_file():
        return shard.index
    torch.set_num_threads(1)
    codec = autoencoder_from(shard.codec)
    rate, hop = codec.config.sample_rate, codec.config.hop_length
    frames = int(CLIP_S * rate) // hop
    synth = Synth(rate)
    latents = np.zeros((shard.count, frames, codec.config.latent_channels), np.float16)
    labels = []
    for i in range(shard.count):
        score, audio = render_clip(synth, shard.first_seed + i, frames * hop)
        with torch.no_grad():
            encoded = codec.encode(torch.from_numpy(audio)[None])[0]
        latents[i] = encoded.T.numpy().astype(np.float16)
        labels.append(labels_of(score))
    with atomic_file(shard.output / f"latents-{shard.index:03d}.npy") as path:
        np.save(path, latents)
    write_json(labels_path, labels)
    return shard.index


def make_corpus(codec: Path, output: Path, clips: int, workers: int, display: Display) -> None:
    """Make all shards of a corpus of `clips` clips with `workers` processes."""
    size = 250
    output.mkdir(parents=True, exist_ok=True)
    shards = [
        Shard(i, i * size, min(size, clips - i * size), codec, output)
        for i in range(-(-clips // size))
    ]
    with ProcessPoolExecutor(workers) as pool, display.task("corpus", len(shards)) as task:
        for index in pool.map(make_shard, shards):
            task.advance(note=f"shard {index}")


def load_corpus(folder: Path) -> tuple[NDArray[np.float16], list[dict[str, Any]]]:
    """All finished shards: latents (clips, frames, channels) and one label row a clip."""
    paths = sorted(folder.glob("labels-*.json"))
    labels = [row for path in paths for row in json.loads(path.read_text())]
    arrays = [
        np.load(p.with_name(p.name.replace("labels", "latents")).with_suffix(".npy")) for p in paths
    ]
    return np.concatenate(arrays), labels
