"""Models without their weights: the modules as their configurations describe them, to be traced.

An exported graph needs a weight's name and shape; its values are streamed into the file later. So
a denoiser of two billion weights is traced in the memory of its activations.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import Qwen3Config

from luthier.errors import ModelError
from luthier.music.torch.model import MusicModel
from luthier.music.torch.model_folder import CLASSES, ModelFolder
from luthier.music.torch.oobleck import Oobleck, without_weight_norm

_MINI = "MiniAutoencoder"


def hollow_model(model: ModelFolder) -> MusicModel:
    """All components of a model, none with weights but mini's autoencoder, which is small.

    Raises:
        ModelError: a configuration is missing or not one of this family.
    """
    parts = {name: _hollow_part(model, name) for name in CLASSES}
    is_mini = model.config("vae").get("_class_name") == _MINI
    vae = model.part("vae") if is_mini else _hollow_oobleck(model)
    return MusicModel(spec=model.spec, tokenizer=model.tokenizer(), vae=vae, **parts)


def _hollow_part(model: ModelFolder, name: str) -> Any:
    if not model.has(name):
        return model.part(name)  # which says what is missing
    config = model.config(name)
    try:
        with init_empty_weights(include_buffers=False):
            if name == "text_encoder":
                module = CLASSES[name](Qwen3Config.from_dict(config))
            else:
                module = CLASSES[name].from_config(config)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"{model.part_folder(name)} cannot be loaded: {error}") from error
    return _filled(module)


def _hollow_oobleck(model: ModelFolder) -> Oobleck:
    with init_empty_weights(include_buffers=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # diffusers' own, about weight_norm
        module: Oobleck = Oobleck.from_config(model.config("vae"))
    without_weight_norm(module)
    _filled(module)
    return module


def _filled(module: Any) -> Any:
    """Give every parameter its shape over a single number in memory.

    The numbers differ, because the exporter stores parameters of equal values only once.
    """
    number = 0
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                number += 1
                value = torch.full((1,) * parameter.dim(), 1e-6 * number)
                part._parameters[name] = nn.Parameter(value.expand(parameter.shape), False)
    return module.eval()
