"""What playing needs besides the graphs: numbers, tokenizer, the latent of silence, the null."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from luthier.export.weights import StoredWeights, as_half
from luthier.music.spec import save_spec
from luthier.music.torch.model import MusicModel
from luthier.music.torch.model_folder import ModelFolder


def write_rest(model: ModelFolder, hollow: MusicModel, folder: Path, precision: str) -> None:
    """Write `luthier.json`, `tokenizer.json`, `silence_latent.npy` and `null_condition_emb.npy`.

    Args:
        precision: of the export; silence is kept in float32 with fp32, else in float16.
    """
    save_spec(hollow.spec, folder)
    hollow.tokenizer.save(str(folder / "tokenizer.json"))
    weights = StoredWeights(model, "condition_encoder")
    silence = weights["silence_latent"][:, : hollow.spec.max_frames]
    if np.array_equal(silence, np.broadcast_to(silence[:, :1], silence.shape)):
        silence = silence[:, :1]  # one frame stands for all of them
    np.save(folder / "silence_latent.npy", silence if precision == "fp32" else as_half(silence))
    null = weights["null_condition_emb"]
    np.save(folder / "null_condition_emb.npy", null.astype(np.float32))
