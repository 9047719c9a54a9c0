"""How much worse a tier sounds than float32: the same prompts and noise, played by both.

FAD needs something to be far from. Real tracks are not at hand at an export, so both tiers are
measured against more music of the float32 graphs, made from other noise: what is compared is how
much further away the tier's music lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.errors import ExportError, MissingExtraError, ModelError
from luthier.evaluation.clap import Clap
from luthier.evaluation.embedding import Embedding, get_embedding
from luthier.evaluation.frechet import Statistics, distance
from luthier.export.precision import Precision
from luthier.music.playing.pipeline import Generated, MusicPipeline
from luthier.music.request import MusicRequest
from luthier.progress import SILENT, Display

TOLERANCE: dict[Precision, float] = {"fp32": 0.0, "fp16": 0.05, "int8": 0.05, "int4": 0.15}
PROMPTS = (
    "lofi hip hop, mellow rhodes, dusty drums",
    "solo piano, slow, melancholic",
    "funk, slap bass, bright horns",
    "ambient, warm pads, no drums",
)
_SECONDS = 6.0
_TIER_SEED, _REFERENCE_SEEDS = 7, (1001, 2002)

Windows = NDArray[np.float64]


class QualityError(ExportError):
    """A tier's music is further from float32's than its gate allows."""

    exit_code = 3


@dataclass(frozen=True)
class Quality:
    """How a tier's music compares to that of float32.

    Attributes:
        fad_fp32: Fréchet distance of float32's clips to float32's clips of other noise.
        fad_tier: of the tier's clips to the same.
        fad_between: of the tier's clips to float32's of the same noise: 0 would be no change.
        clap_fp32: mean cosine of clips and prompts; None without CLAP's weights.
        clap_tier: of the tier's.
        tolerance: by which share the tier may be worse.
    """

    tier: Precision
    embedding: str
    clips: int
    windows: int
    fad_fp32: float
    fad_tier: float
    fad_between: float
    clap_fp32: float | None
    clap_tier: float | None
    tolerance: float

    @property
    def missed(self) -> list[str]:
        """The gates that are missed, a sentence each."""
        found = []
        limit = self.fad_fp32 * (1 + self.tolerance)
        if self.fad_tier > limit:
            found.append(f"FAD is {self.fad_tier:.3f} where at most {limit:.3f} is allowed")
        if self.clap_fp32 is not None and self.clap_tier is not None:
            least = self.clap_fp32 - abs(self.clap_fp32) * self.tolerance
            if self.clap_tier < least:
                found.append(f"CLAP is {self.clap_tier:.3f} where at least {least:.3f} is allowed")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Rounded values, for JSON."""
        values = {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return values | {"passed": not self.missed}


def check_quality(quality: Quality) -> None:
    """Raise `QualityError` when a gate is missed."""
    if quality.missed:
        raise QualityError(
            f"the music of {quality.tier} is further from that of float32 than its tolerance of "
            f"{quality.tolerance:.0%}: {'; '.join(quality.missed)} ({quality.embedding}, "
            f"{quality.clips} clips). Choose a higher precision."
        )


def measure_quality(
    reference: Path, tier: Path, precision: Precision, display: Display = SILENT
) -> Quality:
    """Play the prompts with both folders of graphs, one after the other, and compare."""
    ears = get_embedding()
    clap = _clap()
    with display.task("listen", total=3) as task:
        with _playing(reference) as player:
            near = [_listened(g, ears, clap) for g in _clips(player, [_TIER_SEED])]
            task.advance(note="fp32")
            far = [_listened(g, ears, clap) for g in _clips(player, _REFERENCE_SEEDS)]
            task.advance(note="reference")
        with _playing(tier) as player:
            heard = [_listened(g, ears, clap) for g in _clips(player, [_TIER_SEED])]
            task.advance(note=precision)
    away, plain, lowered = (_fitted([one.windows for one in s]) for s in (far, near, heard))
    return Quality(
        tier=precision,
        embedding=ears.name,
        clips=len(heard),
        windows=lowered.count,
        fad_fp32=distance(away, plain),
        fad_tier=distance(away, lowered),
        fad_between=distance(plain, lowered),
        clap_fp32=_mean([one.likeness for one in near]),
        clap_tier=_mean([one.likeness for one in heard]),
        tolerance=TOLERANCE[precision],
    )


@dataclass(frozen=True)
class _Heard:
    windows: Windows
    likeness: float | None


@contextmanager
def _playing(folder: Path) -> Iterator[MusicPipeline]:
    pipeline = MusicPipeline(folder)
    try:
        yield pipeline
    finally:
        pipeline.graphs.release()


def _clips(player: MusicPipeline, seeds: Sequence[int]) -> Iterator[Generated]:
    for seed in seeds:
        for index, prompt in enumerate(PROMPTS):
            request = MusicRequest(
                prompt=prompt, duration_s=_SECONDS, seed=seed + index, instrumental=True
            )
            yield player.generate(request)


def _listened(made: Generated, ears: Embedding, clap: Clap | None) -> _Heard:
    windows = ears.embed(made.audio, made.sample_rate)
    if clap is None:
        return _Heard(windows, None)
    sound = clap.embed(made.audio, made.sample_rate).mean(axis=0)
    words = clap.embed_texts([made.request.prompt])[0]
    return _Heard(windows, float(sound @ words / max(float(np.linalg.norm(sound)), 1e-12)))


def _fitted(windows: Sequence[Windows]) -> Statistics:
    return Statistics.from_windows(np.concatenate(list(windows)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _clap() -> Clap | None:
    try:
        return Clap()
    except (ModelError, MissingExtraError):
        return None  # its weights are not on this machine: FAD alone decides
