"""How strong an adapter is, as its configuration or its file's own metadata say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import AdapterError
from luthier.music.adapters.layer import Strength
from luthier.music.adapters.patterns import Patterns, is_strength
from luthier.music.adapters.place import CONFIG_NAME, WEIGHTS_NAME, AdapterFiles, missing

SETTINGS_KEY = "lora_adapter_metadata"  # diffusers' and ours, in a file's own metadata
ALPHAS = {"LORA": "lora_alpha", "LOKR": "alpha"}
# These take part of the base weights into the adapter, so that base + adapter is not their sum.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")
# These make of an adapter more than what is added to a weight.
_OF_OTHER_KINDS = ("layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora")


@dataclass(frozen=True)
class Settings:
    """What a configuration, or a file's own metadata, says of strengths; empty where none does."""

    where: str
    values: Mapping[str, Any]
    ranks: Patterns
    alphas: Patterns

    @property
    def kind(self) -> str:
        """PEFT's name of it: LORA or LOKR."""
        return str(self.values.get("peft_type", "LORA"))

    def strength(self, layer: str) -> Strength | None:
        """Of a layer as the trainer calls it; None where nothing is said."""
        if not self.values:
            return None
        rank = self.ranks.get(layer, self.values["r"])
        alpha = self.alphas.get(layer, self.values[ALPHAS[self.kind]])
        return Strength(alpha, rank, bool(self.values.get("use_rslora")) and self.kind == "LORA")


def read_settings(files: AdapterFiles, config_data: bytes, metadata: Mapping[str, str]) -> Settings:
    """What a configuration says, else the file's metadata; `AdapterError` where it is unsound."""
    where = str(files.config or files.weights)
    try:
        if files.config:
            values = json.loads(config_data)
        else:
            values = _unprefixed(json.loads(metadata.get(SETTINGS_KEY, "{}")))
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{where} is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise AdapterError(f"{where} is no object of settings.")
    if files.config or values:
        _check_settings(files.place, where, values)
    elif files.weights.name == WEIGHTS_NAME:
        raise missing(files.weights.parent, CONFIG_NAME)
    patterns = (
        Patterns(values.get(name), f"{where}: {name}") for name in ("rank_pattern", "alpha_pattern")
    )
    return Settings(where, values, *patterns)


def _unprefixed(values: Any) -> Any:
    """Settings without the part of the pipeline before each name."""
    if not isinstance(values, dict):
        return values
    return {name.rsplit(".", 1)[-1]: value for name, value in values.items()}


def _check_settings(place: Path, where: str, values: Mapping[str, Any]) -> None:
    kind = values.get("peft_type", "LORA" if "lora_alpha" in values else None)
    if kind not in ALPHAS:
        raise AdapterError(
            f"{where} is of another kind of adapter: peft_type is {str(kind)[:40]}. LoRA (also "
            "rsLoRA and DoRA) and LoKr can be read."
        )
    if values.get("bias") not in (None, "none") or values.get("lora_bias"):
        raise AdapterError(f"{place} also trains biases: only adapters of weights can be read.")
    other = [name for name in _OF_OTHER_KINDS if values.get(name)]
    if other:
        raise AdapterError(f"{place} uses {other[0]}, which is more than an addition to weights.")
    initial = str(values.get("init_lora_weights", ""))
    if initial.lower().startswith(_CHANGES_BASE):
        raise AdapterError(
            f"{place} was initialised by {initial[:40]}, which changes the base weights too: "
            "convert it to a plain LoRA first (peft: save_pretrained with "
            "path_initial_model_for_weight_conversion)."
        )
    for name in ("r", ALPHAS[kind]):
        value = values.get(name)
        if not is_strength(value):
            found = "is missing" if value is None else f"is {value!r}"[:44]
            raise AdapterError(
                f"{where}: {name} {found}, but rank and alpha (numbers above 0) say how strong the "
                "adapter is. Write in what it was trained with."
            )
