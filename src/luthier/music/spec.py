"""What a music model is, in numbers: rates, channels, limits and defaults, read from its folder's
`luthier.json`.

Nothing else in luthier knows that ACE-Step 1.5 has 25 latents a second and mini 50.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.errors import ModelError, PathError
from luthier.files import read_json, write_json

SPEC_NAME = "luthier.json"
TASKS_WITH_TRACKS = ("lego", "extract", "complete")
AUDIO_CODES = 8 * 8 * 8 * 5 * 5 * 5  # as many as there are, numbered from 0
DENOISER = "dit_decoder"  # the graph that makes the music, and that adapters are trained for


class ModelSpec(BaseModel):
    """Rates, shapes, limits and generation defaults of one music model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="short name, e.g. mini or acestep-v15-turbo")
    sample_rate: int = Field(gt=0, description="audio samples a second, Hz")
    hop_length: int = Field(gt=0, description="audio samples a latent frame")
    latent_channels: int = Field(gt=0, description="channels of a latent frame")
    patch_size: int = Field(gt=0, description="latent frames a denoiser token; T is padded to it")
    pool_window: int = Field(gt=0, description="latent frames an audio code")
    timbre_frames: int = Field(gt=0, description="latent frames of reference audio")
    min_frames: int = Field(gt=0, description="shorter requests are padded with silence to this")
    max_frames: int = Field(gt=0, description="length of the stored silence latent: the ceiling")
    tile_frames: int = Field(default=512, gt=0, description="most latent frames decoded at once")
    tile_overlap: int = Field(
        default=64, ge=0, description="of these, frames of context at each border, cut off again"
    )
    timbre_token: bool = Field(
        default=False,
        description="a learned token leads the timbre encoder's input, as in the XL models",
    )
    max_text_tokens: int = Field(default=256, description="prompt tokens, truncated by the host")
    max_lyric_tokens: int = Field(default=2048, description="lyric tokens, truncated by the host")
    is_turbo: bool = Field(default=False, description="guidance distilled into the weights")
    default_steps: int = Field(gt=0, description="denoising steps")
    default_shift: float = Field(gt=0, description="timestep shift")
    default_guidance: float = Field(ge=1, description="classifier-free guidance scale; 1 is none")
    track_guidance: float | None = Field(
        default=None,
        ge=1,
        description="the same for lego, extract and complete; the default when it is null",
    )
    guidance_method: Literal["apg", "cfg"] = Field(
        default="apg", description="the default: adaptive projected, or plain, guidance"
    )
    timestep_mean: float = Field(
        default=-0.4, description="of the logit of training times; ACE-Step 1.5's timestep_mu"
    )
    timestep_deviation: float = Field(
        default=1.0, gt=0, description="of the same; ACE-Step 1.5's timestep_sigma"
    )
    tasks: tuple[str, ...] = Field(default=("text2music",), description="tasks it was trained for")

    @property
    def frames_per_second(self) -> float:
        """Latent frames a second."""
        return self.sample_rate / self.hop_length

    def guidance_of(self, task: str) -> float:
        """The guidance scale of a task where none is asked for."""
        if self.is_turbo:
            return 1.0
        of_tracks = self.track_guidance if task in TASKS_WITH_TRACKS else None
        return of_tracks or self.default_guidance

    def frames(self, duration_s: float) -> int:
        """Latent frames for a duration in seconds, padded up to a whole denoiser token."""
        frames = max(1, round(duration_s * self.frames_per_second))
        return -(-frames // self.patch_size) * self.patch_size


def load_spec(folder: Path) -> ModelSpec:
    """Read `luthier.json` of a model folder (torch or ONNX); raise `ModelError` when it is missing
    or wrong.
    """
    try:
        return ModelSpec.model_validate(read_json(folder / SPEC_NAME))
    except (PathError, ValueError) as error:
        raise ModelError(f"{folder} is not a luthier music model: {error}") from error


def save_spec(spec: ModelSpec, folder: Path) -> None:
    """Write `luthier.json` into a model folder."""
    write_json(folder / SPEC_NAME, spec.model_dump(mode="json"))
