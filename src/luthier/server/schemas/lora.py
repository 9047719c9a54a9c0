"""Adapters: which are loaded, and which plays where a task names none."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from luthier.server.schemas.envelope import Asked, Shape


class LoadAsked(Asked):
    """An adapter to load."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"lora_path": "lofi"}]})

    lora_path: str = Field(
        min_length=1,
        max_length=1024,
        description="a name of /v1/capabilities, or a path below a --lora-root",
    )
    adapter_name: str | None = Field(
        None, min_length=1, max_length=256, description="to call it by; its folder's when not said"
    )


class LoadedAnswer(Shape):
    """It is loaded and plays from now on."""

    message: str
    lora_path: str
    adapter_name: str


class UnloadAsked(Asked):
    """Nothing is asked."""


class Told(Shape):
    """What was done."""

    message: str


class ToggleAsked(Asked):
    """Whether the active adapter plays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"use_lora": False}]})

    use_lora: bool


class Toggled(Told):
    """Whether it plays."""

    use_lora: bool


class ScaleAsked(Asked):
    """How strong an adapter is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"scale": 0.7}]})

    scale: float = Field(ge=0, le=1, description="1 is as trained")
    adapter_name: str | None = Field(
        None, max_length=256, description="which; the active one when not said"
    )


class Scaled(Told):
    """How strong it is now."""

    scale: float
    adapter_name: str


class LoraStatus(Shape):
    """What is loaded, and what plays."""

    lora_loaded: bool
    use_lora: bool
    lora_scale: float = Field(description="of the active adapter; 1 when there is none")
    adapter_type: str | None = Field(description="lora, or nothing when none is loaded")
    scales: dict[str, float]
    active_adapter: str | None
    adapters: list[str]
    synthetic_default_mode: bool = Field(description="always false: adapters keep their names")
