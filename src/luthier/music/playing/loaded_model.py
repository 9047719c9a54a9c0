"""A music model that is open: graphs that run, and what goes with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from luthier.music.spec import ModelSpec, load_spec
from luthier.runtime.pool import SessionPool
from luthier.runtime.runner import GraphRunner
from luthier.runtime.session import Graphs
from luthier.runtime.text import load_tokenizer

Array = NDArray[np.float32]


@dataclass(frozen=True)
class PlayableModel:
    """What `MusicPipeline` plays."""

    folder: Path
    graphs: GraphRunner
    spec: ModelSpec
    tokenizer: Tokenizer
    silence_latent: Array  # [1, T, C]: what an empty source sounds like
    null_condition: Array  # [1, 1, D]: the condition of no prompt


def open_exported(
    folder: Path,
    threads: int | None = None,
    *,
    provider: str = "auto",
    pool: SessionPool | None = None,
) -> PlayableModel:
    """Open a folder of exported graphs; takes and raises what `runtime.session.Graphs` does."""
    graphs = Graphs(folder, threads, provider=provider, pool=pool)
    graphs.manifest.verified("luthier.json")
    spec = load_spec(folder)
    silence = graphs.array("silence_latent.npy")
    if silence.shape[1] == 1:
        silence = np.broadcast_to(silence, (1, spec.max_frames, silence.shape[2]))
    return PlayableModel(
        folder=folder,
        graphs=graphs,
        spec=spec,
        tokenizer=load_tokenizer(graphs.manifest.verified("tokenizer.json")),
        silence_latent=silence,
        null_condition=graphs.array("null_condition_emb.npy"),
    )
