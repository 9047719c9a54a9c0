"""One recording → one training-ready file, or the reason why not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from luthier.audio.decode import mix_to, read_audio
from luthier.audio.encode import write_audio
from luthier.audio.key import estimate_key
from luthier.audio.measure import Measures, measure, peak, quality_score
from luthier.audio.resample import resample
from luthier.audio.tempo import estimate_tempo
from luthier.errors import AudioError, PathError
from luthier.files import sha256_of

Status = Literal["success", "skipped", "failed"]
_MAX_CLIPPING, _MAX_SILENCE = 0.001, 0.5
_FADE_SHARE, _MIN_FADE_S, _MAX_FADE_S = 0.01, 0.05, 2.0
_PEAK_TRIES, _PEAK_TOLERANCE = 4, 1.002  # 0.02 dB


class CurateSettings(BaseModel):
    """How recordings become training-ready: every default of `luthier curate`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_rate: int = Field(default=48000, ge=8000, le=192000, description="Hz of the output")
    target_format: Literal["mp3", "flac", "wav", "ogg"] = Field(
        default="mp3", description="output format"
    )
    bitrate: int = Field(default=320, ge=32, le=512, description="kbit/s of mp3 and ogg")
    min_duration: float = Field(default=30, ge=0, description="shorter is skipped, seconds")
    max_duration: float = Field(default=240, gt=0, description="longer is cut with a fade, seconds")
    normalize_peak: float = Field(
        default=-1, ge=-30, le=0, description="peak of the output, dB full scale"
    )


@dataclass(frozen=True)
class CurateJob:
    """One file to do. `previous` is what an earlier run said about the same source, if any."""

    source: Path
    output: Path
    settings: CurateSettings
    previous: dict[str, object] | None = None


@dataclass(frozen=True)
class CurateResult:
    """What became of one source.

    Attributes:
        source: the file, as found.
        status: success, skipped (fine, but not wanted) or failed (unusable).
        output_path: what was written; None unless success.
        duration: seconds of the output, of the source where there is none.
        quality_score: 0..100, 0 when failed.
        reason: why skipped or failed: a name from a short list and a sentence.
        notes: what cost quality points, and what was done to the track.
        bpm, key: estimates, on success.
        measures: of the source, as decoded; None when it could not be.
        source_sha256, output_sha256: of the files.
        unchanged: nothing was done, because an earlier run had done it.
    """

    source: str
    status: Status
    output_path: str | None = None
    duration: float = 0.0
    quality_score: int = 0
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    bpm: float | None = None
    bpm_confidence: float | None = None
    key: str | None = None
    key_confidence: float | None = None
    measures: Measures | None = None
    source_sha256: str | None = None
    output_sha256: str | None = None
    unchanged: bool = False


def curate_file(job: CurateJob) -> CurateResult:
    """Decode, measure, judge, trim, resample, normalise, encode and verify one file.

    Whatever is wrong with the source ends in the result; only what is wrong with the output folder
    or the disk is raised (`PathError`, `StorageError`).
    """
    row = CurateResult(source=str(job.source), status="failed")
    try:
        if job.source.is_dir():
            raise PathError(f"the folder {job.source} cannot be read.")
        row = replace(row, source_sha256=sha256_of(job.source))
        if reused := _reusable(job, row):
            return reused
        samples, rate = read_audio(job.source)
    except (AudioError, PathError) as error:
        return replace(row, reason=f"unreadable: {error}")
    except OSError as error:
        return replace(row, reason=f"unreadable: {job.source}: {error.strerror or error}.")
    measures = measure(samples, rate)
    row = replace(row, measures=measures, duration=measures.duration_s)
    judged = _judge(row, measures, job.settings)
    return judged if judged.reason else _make(job, judged, samples, rate)


def _reusable(job: CurateJob, row: CurateResult) -> CurateResult | None:
    """The earlier result, when the source is the same and its output, if any, still is."""
    before = job.previous
    if before is None or before.get("source_sha256") != row.source_sha256:
        return None
    if before["status"] == "success" and (
        before["output_path"] != str(job.output)
        or not job.output.is_file()
        or sha256_of(job.output) != before["output_sha256"]
    ):
        return None
    values = {**before, "unchanged": True}
    measures = values.get("measures")
    if isinstance(measures, dict):
        values["measures"] = Measures(**measures)
    return CurateResult(**values)  # type: ignore[arg-type]


def _judge(row: CurateResult, measures: Measures, settings: CurateSettings) -> CurateResult:
    """Score a source and give the reason for leaving it out, where there is one."""
    score, notes = quality_score(measures)
    if measures.peak_db <= -120:
        return replace(row, reason="silent: every sample is zero.")
    if measures.clipping_ratio > _MAX_CLIPPING:
        return replace(
            row,
            reason=f"excessive_clipping: {measures.clipping_ratio:.2%} of the samples are clipped; "
            f"at most {_MAX_CLIPPING:.1%} may be.",
        )
    if measures.silence_ratio > _MAX_SILENCE:
        return replace(
            row,
            reason=f"excessive_silence: {measures.silence_ratio:.0%} of the time is silent; "
            f"at most {_MAX_SILENCE:.0%} may be.",
        )
    row = replace(row, quality_score=score, notes=notes)
    if measures.duration_s < settings.min_duration:
        reason = (
            f"{measures.duration_s:.1f} s long; at least {settings.min_duration:g} s are needed"
        )
        return replace(row, status="skipped", reason=f"too_short: {reason}.")
    return row


def _make(
    job: CurateJob, row: CurateResult, samples: NDArray[np.float32], rate: int
) -> CurateResult:
    settings, notes = job.settings, list(row.notes)
    samples = mix_to(samples, 2)
    if samples.shape[1] > settings.max_duration * rate:
        samples = _faded(samples[:, : round(settings.max_duration * rate)], rate)
        notes.append(f"cut from {row.duration:.1f} s to {settings.max_duration:g} s")
    samples = resample(samples, rate, settings.sample_rate, quality="VHQ")
    tempo = estimate_tempo(samples, settings.sample_rate)
    key = estimate_key(samples, settings.sample_rate)
    try:
        _write_at_peak(job.output, samples, settings)
    except AudioError as error:
        return replace(row, quality_score=0, reason=f"not encoded: {error}")
    return replace(
        row,
        status="success",
        output_path=str(job.output),
        duration=round(samples.shape[1] / settings.sample_rate, 3),
        notes=notes,
        bpm=tempo.bpm or None,
        bpm_confidence=tempo.confidence,
        key=key.name,
        key_confidence=key.confidence,
        output_sha256=sha256_of(job.output),
    )


def _faded(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Fade the end out over 1 % of the length, within 50 ms…2 s, along a half cosine."""
    fade_s = min(_MAX_FADE_S, max(_MIN_FADE_S, _FADE_SHARE * samples.shape[1] / rate))
    count = min(samples.shape[1], round(fade_s * rate))
    ramp = 0.5 + 0.5 * np.cos(np.pi * (np.arange(count) + 1) / count)
    faded = samples.copy()
    faded[:, -count:] *= ramp.astype(np.float32)
    return faded


def _write_at_peak(path: Path, samples: NDArray[np.float32], settings: CurateSettings) -> None:
    """Encode so that the *decoded* file peaks at the target: lossy codecs overshoot, so encode
    again, lower by what was too much."""
    target = 10 ** (settings.normalize_peak / 20)
    gain = target / peak(samples)
    for _ in range(_PEAK_TRIES):
        write_audio(
            path,
            samples * np.float32(gain),
            settings.sample_rate,
            bitrate_kbps=settings.bitrate,
        )
        if settings.target_format in ("wav", "flac"):
            return
        reached = peak(read_audio(path)[0])
        if reached <= target * _PEAK_TOLERANCE:
            return
        gain *= 0.9995 * target / reached


def to_json(result: CurateResult) -> dict[str, object]:
    """A result as the row of `curation.json`."""
    return asdict(result)
