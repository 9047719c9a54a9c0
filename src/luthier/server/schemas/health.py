"""What the server says of itself."""

from __future__ import annotations

from pydantic import Field

from luthier.server.schemas.envelope import Shape


class Health(Shape):
    """Liveness, and what is open."""

    status: str
    service: str
    version: str = Field(description="of upstream's interface")
    models_initialized: bool = Field(description="a worker has a model open")
    llm_initialized: bool = Field(description="there is a planner")
    loaded_model: str | None = Field(description="the default model, once it is open")
    loaded_lm_model: str | None
    gpus: list[str] = Field(description="the devices that workers play on, where they are no CPU")
    gpu_mapping: dict[str, str] = Field(description="model → device, of those")
    device_map: dict[str, str] = Field(description="model → where it runs")
    server: str
    workers: int = Field(ge=0)


class ModelRow(Shape):
    """A model."""

    name: str
    is_default: bool
    is_loaded: bool = Field(description="open in a worker; others open when they are asked for")
    supported_task_types: list[str]


class PlannerRow(Shape):
    """A planner."""

    name: str
    is_loaded: bool


class Inventory(Shape):
    """The models and planners of this server."""

    models: list[ModelRow]
    default_model: str
    lm_models: list[PlannerRow]
    loaded_lm_model: str | None
    llm_initialized: bool


class JobCounts(Shape):
    """How many tasks there are."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class Stats(Shape):
    """How busy it is."""

    jobs: JobCounts
    queue_size: int
    queue_maxsize: int
    avg_job_seconds: float
    eta_seconds: float = Field(description="until all tasks of now are done, as far as is known")


class Recommended(Shape):
    """What to ask a model for where nobody says otherwise."""

    inference_steps: int
    shift: float
    guidance_scale: float


class KindSpeed(Shape):
    """How long one kind of task takes: fixed + seconds_per_step_second · steps · seconds."""

    fixed_seconds: float
    seconds_per_step_second: float


class Measured(Shape):
    """The speed of this machine, over the last tasks of a model."""

    tasks: int = Field(description="that were measured; older ones count less")
    seconds_per_audio_second: float | None = Field(description="at the model's own steps")
    by_kind: dict[str, KindSpeed] = Field(description="text2music, cover, ...")


class ExploredTask(Shape):
    """What `luthier matrix` found of one task."""

    verdict: str = Field(description="live, slow, weak, unstable or not supported")
    why: str
    speed: float | None = Field(description="seconds of sound a second, median")


class Explored(Shape):
    """What `luthier matrix` found on this device, and recommends."""

    measured: str = Field(description="when, ISO 8601")
    offer: list[str] = Field(description="the tasks that are worth offering")
    tasks: dict[str, ExploredTask] = Field(description="text2music, repaint, lego:bass, ...")
    steps: int | None = Field(description="null: the model's own")
    batch: int | None
    longest_live_s: float | None = Field(description="no longer piece is surely made in real time")
    memory_gb: float | None = Field(description="that a worker needs")


class ModelAbilities(Shape):
    """What a model can do here."""

    name: str
    tasks: list[str]
    tracks: list[str] = Field(description="that lego, extract and complete can be about")
    sample_rate: int = Field(description="Hz")
    longest_s: float
    recommended: Recommended
    measured: Measured
    explored: Explored | None = Field(description="where the server was given `--matrix`")


class LimitsHere(Shape):
    """How much of everything there may be."""

    queue: int
    upload_bytes: int
    upload_files: int
    body_bytes: int
    results_kept_seconds: float


class FieldRow(Shape):
    """A field of `/release_task`."""

    name: str
    aliases: list[str]
    help: str


class Capabilities(Shape):
    """Everything that a client needs to fit itself to this server."""

    server: str
    models: list[ModelAbilities]
    default_model: str
    planner: str | None
    audio_formats: list[str]
    limits: LimitsHere
    features: dict[str, bool]
    adapters: list[str] = Field(description="what the field `lora` may name")
    fields: list[FieldRow]
