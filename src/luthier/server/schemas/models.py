"""Which models there are, and which are to be open."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from luthier.models import BUILT_IN
from luthier.server.schemas.envelope import Asked, Shape
from luthier.server.schemas.health import ModelRow, PlannerRow


class InitAsked(Asked):
    """What to open."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": BUILT_IN}, {"slot": 1}]})

    model: str | None = Field(
        None, max_length=256, description="one of this server's; the slot's when not said"
    )
    slot: int | None = Field(
        None, ge=1, le=3, description="the model's place among --model; 1 is the default's"
    )
    init_llm: bool = Field(False, description="open the planner too")
    lm_model_path: str | None = Field(
        None, max_length=4096, description="the server's planner, by its folder's name"
    )


class Opened(Shape):
    """What is open now."""

    message: str
    slot: int
    loaded_model: str
    loaded_lm_model: str | None
    models: list[ModelRow]
    lm_models: list[PlannerRow]
    llm_initialized: bool


class ReinitAsked(Asked):
    """Nothing is asked."""


class Renewed(Shape):
    """The workers are being replaced."""

    message: str
