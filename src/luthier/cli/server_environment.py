"""ACE-Step's environment variables of its server, where their values need to be understood."""

from __future__ import annotations

import math
import os
from pathlib import Path

from luthier.errors import RequestError
from luthier.files import existing_folder
from luthier.hub import Hub
from luthier.models import Precision, planner_model

_TRUE, _FALSE = ("1", "true", "yes", "y", "on"), ("0", "false", "no", "n", "off")
# What torch calls a device → the provider that uses it.
_PROVIDERS = {"auto": "auto", "cpu": "cpu", "cuda": "cuda", "mps": "coreml", "mlx": "coreml"}


def seconds_of(variable: str, default: float) -> float:
    """A number of seconds above 0.

    Raises:
        RequestError: it is none.
    """
    text = os.environ.get(variable, "").strip()
    try:
        value = float(text or default)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise RequestError(f"{variable} is {text!r}: it must be a number of seconds above 0.")
    return value


def provider_of(given: str) -> str:
    """`--provider`, or what `ACESTEP_DEVICE` means where that leaves it open.

    Raises:
        RequestError: it names no device that is known.
    """
    text = os.environ.get("ACESTEP_DEVICE", "").strip().lower()
    if given != "auto" or not text:
        return given
    device = text.partition(":")[0]
    if device not in _PROVIDERS:
        raise RequestError(
            f"ACESTEP_DEVICE is {text!r}: it must be {', '.join(_PROVIDERS)}; or use --provider."
        )
    return _PROVIDERS[device]


def planner_of(given: str | None, hub: Hub, precision: Precision, *, needed: bool) -> Path | None:
    """The planner's folder: given, or `ACESTEP_LM_MODEL_PATH`, if `ACESTEP_INIT_LLM` lets it be.

    Args:
        given: a folder, or a model of the hub.
        hub: how that is asked.
        precision: of the graphs that a model of the hub is exported to.
        needed: a server without planner is not what is wanted.

    Raises:
        RequestError: there is none where one is needed.
        PathError: the folder is not there.
    """
    wish = os.environ.get("ACESTEP_INIT_LLM", "").strip().lower()
    text = os.environ.get("ACESTEP_LM_MODEL_PATH", "").strip()
    if given is None and not needed and wish in _FALSE:
        return None
    found = given or text or None
    if found is None:
        if needed:
            raise RequestError("--init-llm needs a planner: name its folder with --lm-model-path.")
        if wish in _TRUE:
            raise RequestError(
                "ACESTEP_INIT_LLM asks for a planner: name its folder in ACESTEP_LM_MODEL_PATH."
            )
        return None
    return existing_folder(planner_model(found, hub, precision), "planner").resolve()
