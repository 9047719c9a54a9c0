"""LAION-CLAP through transformers: audio and text in one space, when its weights are on this
machine.

Nothing is downloaded: a local folder or the hub's cache is read. `transformers` cuts long audio at
random; here every clip is cut into fixed windows first, so the same clip gives the same numbers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.audio.decode import mix_to
from luthier.audio.resample import resample
from luthier.errors import AudioError, MissingExtraError, ModelError
from luthier.files import sha256_of

VARIABLE = "LUTHIER_CLAP"
DEFAULT_SOURCE = "laion/clap-htsat-unfused"
_BATCH = 8
_OVERLAP = 2  # windows begin every half window
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class Clap:
    """One CLAP model: an embedding for FAD, and the likeness of clips and prompts.

    Args:
        source: a folder, or the hub's name of a model that was downloaded before; None takes the
            environment variable LUTHIER_CLAP, else laion/clap-htsat-unfused.

    Raises:
        MissingExtraError: torch and transformers are not installed.
        ModelError: the weights are not on this machine, or damaged.
    """

    def __init__(self, source: str | None = None) -> None:
        chosen = source or os.environ.get(VARIABLE) or DEFAULT_SOURCE
        folder = _folder_of(chosen)  # first: it is quick, and torch is not
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import ClapModel, ClapProcessor
        except ImportError:
            raise MissingExtraError("a CLAP score", "train") from None
        try:
            model = ClapModel.from_pretrained(folder, local_files_only=True)
            self._processor: Any = ClapProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise ModelError(f"the CLAP model in {folder} cannot be loaded: {error}") from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: Any = model.eval().to(self._device)
        self.name = f"clap:{Path(chosen).name}@{_weights_digest(folder)[:8]}"
        self.dim = int(model.config.projection_dim)
        features = self._processor.feature_extractor
        self.sample_rate = int(features.sampling_rate)
        self.window_s = float(features.max_length_s)
        self.hop_s = self.window_s / _OVERLAP

    def embed(self, samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
        """Embed `samples` (channels, n) as (windows, dim) vectors of unit length."""
        import torch

        if samples.ndim != 2 or samples.shape[1] == 0:
            raise AudioError("there is no audio to embed: the clip has no samples.")
        mono = resample(mix_to(samples, 1), sample_rate, self.sample_rate)[0]
        size, hop = round(self.window_s * self.sample_rate), round(self.hop_s * self.sample_rate)
        # The last window ends with the clip: without it up to half a window would go unheard.
        starts = [hop * i for i in range(max(1, math.ceil((mono.size - size) / hop) + 1))]
        starts = [min(start, max(0, mono.size - size)) for start in starts]
        windows = [mono[start : start + size] for start in dict.fromkeys(starts)]
        rows = []
        for first in range(0, len(windows), _BATCH):
            batch = windows[first : first + _BATCH]
            found = self._processor.feature_extractor(
                batch, sampling_rate=self.sample_rate, return_tensors="pt"
            )
            # Without a window that is too long, the extractor marks a random one as such.
            longer = torch.zeros(len(batch), 1, dtype=torch.bool, device=self._device)
            with torch.inference_mode():
                out = self._model.get_audio_features(
                    input_features=found["input_features"].to(self._device), is_longer=longer
                )
            rows.append(out.pooler_output.double().cpu().numpy())
        return np.concatenate(rows)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Embed texts as (texts, dim) vectors of unit length."""
        import torch

        rows = []
        limit = self._model.config.text_config.max_position_embeddings - 2
        for first in range(0, len(texts), _BATCH):
            found = self._processor.tokenizer(
                list(texts[first : first + _BATCH]),
                padding=True,
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            )
            with torch.inference_mode():
                out = self._model.get_text_features(
                    input_ids=found["input_ids"].to(self._device),
                    attention_mask=found["attention_mask"].to(self._device),
                )
            rows.append(out.pooler_output.double().cpu().numpy())
        return np.concatenate(rows)


def clip_vector(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """One unit vector (dim,) for a clip: the direction of the mean of its windows."""
    mean = windows.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float64)


def likeness(
    clips: Mapping[str, NDArray[np.float64]],
    prompts: Mapping[str, str],
    text_of: Mapping[str, NDArray[np.float64]],
) -> dict[str, float]:
    """The cosine of every clip's vector and its prompt's; clips without a prompt are left out.

    Args:
        clips: unit vectors by file.
        prompts: by file.
        text_of: unit vectors by prompt.
    """
    return {
        name: float(vector @ text_of[prompts[name]])
        for name, vector in clips.items()
        if name in prompts
    }


def _folder_of(source: str) -> Path:
    if Path(source).is_dir():
        return Path(source)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise MissingExtraError("a CLAP score", "train") from None

    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        raise ModelError(
            f"the weights of the CLAP model {source!r} are not on this machine: it is neither a "
            "folder nor in the hub's cache. Download it (huggingface-cli download "
            f"{DEFAULT_SOURCE}), or name a folder with clap:FOLDER or ${VARIABLE}."
        ) from None


def _weights_digest(folder: Path) -> str:
    found = sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))
    if not found:
        raise ModelError(f"the CLAP model in {folder} has no weights.")
    return sha256_of(found[0])
