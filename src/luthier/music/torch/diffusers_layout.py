"""diffusers' layout of an ACE-Step pipeline: which component lies where, and the small files that
`AceStepPipeline.from_pretrained` reads besides weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError
from luthier.files import make_folder, read_json, write_json

INDEX_NAME = "model_index.json"
# Our names of the components → their folders and arguments in diffusers, and the module there.
_PLACES = {
    "transformer": ("transformer", "diffusers"),
    "condition_encoder": ("condition_encoder", "ace_step"),
    "audio_tokenizer": ("audio_tokenizer", "ace_step"),
    "audio_detokenizer": ("audio_token_detokenizer", "ace_step"),
    "text_encoder": ("text_encoder", "transformers"),
    "vae": ("vae", "diffusers"),
}
_SCHEDULER = "FlowMatchEulerDiscreteScheduler"
_END = "<|endoftext|>"
# Ours: diffusers imports it where luthier is installed, and has to be given one elsewhere.
_OWN = {"MiniAutoencoder": "luthier.music.torch.autoencoder"}


def component_folder(name: str) -> str:
    """The folder of a component, e.g. "audio_token_detokenizer" for our "audio_detokenizer"."""
    return _PLACES[name][0] if name in _PLACES else name


def write_pipeline_files(folder: Path, classes: Mapping[str, str]) -> None:
    """Write `model_index.json`, the scheduler, and the tokenizer's configuration where it lacks.

    Args:
        folder: with `tokenizer/tokenizer.json`.
        classes: the class of each component that is there, by our names.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, __version__

    index: dict[str, Any] = {"_class_name": "AceStepPipeline", "_diffusers_version": __version__}
    for name, kind in classes.items():
        place, library = _PLACES[name]
        index[place] = [_OWN.get(kind, library), kind]
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
    scheduler.save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", _SCHEDULER]
    index["tokenizer"] = ["transformers", _tokenizer_class(folder / "tokenizer")]
    write_json(folder / INDEX_NAME, index)


def _tokenizer_class(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        make_folder(folder)
        write_json(path, {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": _END})
    try:
        return str(read_json(path)["tokenizer_class"])
    except (LuthierError, KeyError, TypeError):
        return "PreTrainedTokenizerFast"
