"""One recording → one training-ready file, or the reason why not.

Two passes: the first decodes and measures the whole source, and keeps what will be encoded where
that is small enough; the second encodes. So memory does not grow with the source.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from luthier.audio.excerpt import EXCERPT_RATE, MonoExcerpt
from luthier.audio.fingerprint import Fingerprinter
from luthier.audio.key import estimate_key
from luthier.audio.measure import Measures, Meter, decibels, quality_score
from luthier.audio.reader import AudioReader
from luthier.audio.tempo import estimate_tempo
from luthier.audio.waveform import WaveformMeter
from luthier.dataset.peak_encoder import Loudest, Target, write_at_peak
from luthier.dataset.prepare import Preparation
from luthier.errors import AudioError, PathError
from luthier.files import sha256_of

Status = Literal["success", "skipped", "failed"]
Floats = NDArray[np.float32]
_MAX_CLIPPING, _MAX_SILENCE = 0.001, 0.5
_NOTABLE_DC = 0.005
_KEPT_BYTES = 72 << 20  # three minutes of stereo at 48 kHz; what is longer is decoded again


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
    tempo_and_key: bool = Field(default=True, description="estimate tempo, beats and key")


@dataclass(frozen=True)
class CurateJob:
    """One file to do.

    Attributes:
        source: what is read.
        output: what is written.
        settings: how.
        previous: what an earlier run said about the same source, if any.
        spare: what is written instead where `output` is there and is not in `ours`.
        ours: sha256 of what luthier wrote under the two names; None: whatever is there may go.
        remark: what is worth knowing about the name.
    """

    source: Path
    output: Path
    settings: CurateSettings
    previous: dict[str, object] | None = None
    spare: Path | None = None
    ours: frozenset[str] | None = None
    remark: str | None = None


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
        notes: what cost quality points, what is worth knowing, and what was done to the track.
        bpm, key: estimates, on success.
        measures: of the source, as decoded; None when it could not be.
        source_sha256, output_sha256: of the files.
        unchanged: nothing was done, because an earlier run had done it.
        metre: beats a bar, 3 or 4; None where nothing pulses.
        beats: when they are, seconds from the output's start, in its first five minutes.
        output_peak_db: of the output, decoded again; dB full scale.
        envelope: at most 400 pairs of lowest and highest sample of the output's mono mix.
        fingerprint: text that says whether two sources are the same music.
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
    metre: int | None = None
    beats: list[float] | None = None
    output_peak_db: float | None = None
    envelope: list[list[float]] | None = None
    fingerprint: str | None = None


@dataclass
class _Heard:
    """What the first pass leaves for the second."""

    measures: Measures
    fingerprint: str
    loudest: Loudest
    waveform: WaveformMeter
    excerpt: Floats | None  # (1, n) at EXCERPT_RATE
    count: int  # samples of the output
    is_cut: bool
    kept: list[Floats] | None  # the output's blocks (2, n), when they fit


def curate_file(job: CurateJob) -> CurateResult:
    """Decode, measure, judge, trim, resample, normalise, encode and verify one file.

    Whatever is wrong with the source ends in the result; only what is wrong with the output folder
    or the disk is raised (`PathError`, `StorageError`), or a rate that the output format does not
    have (`RequestError`).
    """
    row = CurateResult(source=str(job.source), status="failed")
    try:
        if job.source.is_dir():
            raise PathError(f"the folder {job.source} cannot be read.")
        row = replace(row, source_sha256=sha256_of(job.source))
        if reused := _reusable(job, row):
            return reused
        heard = _hear(job)
    except (AudioError, PathError) as error:
        return replace(row, reason=f"unreadable: {error}")
    except OSError as error:
        return replace(row, reason=f"unreadable: {job.source}: {error.strerror or error}.")
    row = replace(row, measures=heard.measures, duration=heard.measures.duration_s)
    row = replace(row, fingerprint=heard.fingerprint or None)
    judged = _judge(row, heard.measures, job.settings)
    return judged if judged.reason else _make(job, judged, heard)


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


def _hear(job: CurateJob) -> _Heard:
    """The first pass: everything that is measured, and what will be encoded where it fits."""
    settings = job.settings
    with AudioReader(job.source) as audio:
        rate = audio.sample_rate
        meter = Meter(rate, audio.channel_names)
        fingerprint = Fingerprinter(rate)
        excerpt = MonoExcerpt(rate, settings.max_duration) if settings.tempo_and_key else None
        takers: list[Callable[[Floats], None]] = [meter.add, fingerprint.add]
        takers += [excerpt.add] if excerpt else []
        preparation = _preparation(audio, settings)
        loudest = Loudest(settings.sample_rate)
        waveform = WaveformMeter(settings.sample_rate)
        kept: list[Floats] | None = [] if _may_be_kept(audio, settings) else None

        def decoded() -> Iterator[Floats]:
            for block in audio.blocks(meter.block):
                for take in takers:
                    take(block)
                yield block

        for ready in _prepared(decoded(), preparation):
            loudest.add(ready)
            waveform.add(ready)
            if kept is not None:
                kept.append(ready)
                if preparation.count * 2 * ready.itemsize > _KEPT_BYTES:
                    kept = None
    return _Heard(
        measures=meter.result(),
        fingerprint=fingerprint.text(),
        loudest=loudest,
        waveform=waveform,
        excerpt=excerpt.samples() if excerpt else None,
        count=preparation.count,
        is_cut=preparation.is_cut,
        kept=kept,
    )


def _may_be_kept(audio: AudioReader, settings: CurateSettings) -> bool:
    """Whether the output fits, by the length that the file declares.

    Without asking, long files would fill the memory first, and freed blocks seldom go back to the
    system.
    """
    seconds = min(audio.declared_s or 0.0, settings.max_duration)
    return seconds * settings.sample_rate * 2 * np.float32().itemsize <= _KEPT_BYTES


def _preparation(audio: AudioReader, settings: CurateSettings) -> Preparation:
    return Preparation(
        audio.sample_rate, audio.channel_names, settings.sample_rate, settings.max_duration
    )


def _prepared(blocks: Iterable[Floats], preparation: Preparation) -> Iterator[Floats]:
    for block in blocks:
        ready = preparation.add(block)
        if ready.shape[1]:
            yield ready
    rest = preparation.finish()
    if rest.shape[1]:
        yield rest


def _decoded_again(job: CurateJob) -> Iterator[Floats]:
    """The output's blocks, as the first pass had them."""
    with AudioReader(job.source) as audio:
        preparation = _preparation(audio, job.settings)
        blocks = audio.blocks(Meter(audio.sample_rate, audio.channel_names).block)
        yield from _prepared(_until(blocks, preparation), preparation)


def _until(blocks: Iterable[Floats], preparation: Preparation) -> Iterator[Floats]:
    """Blocks until the preparation has all that it needs."""
    for block in blocks:
        yield block
        if preparation.is_cut:
            return


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
    row = replace(row, quality_score=score, notes=notes + remarks(measures))
    if measures.duration_s < settings.min_duration:
        reason = (
            f"{measures.duration_s:.1f} s long; at least {settings.min_duration:g} s are needed"
        )
        return replace(row, status="skipped", reason=f"too_short: {reason}.")
    return row


def remarks(measures: Measures) -> list[str]:
    """What is worth knowing of a recording though it costs no points."""
    found = [measures.bandwidth_verdict] if measures.bandwidth_verdict else []
    if measures.image in ("dual mono", "inverted mono", "one-sided"):
        found.append(f"{measures.image}: not really stereo")
    if abs(measures.dc_offset) >= _NOTABLE_DC:
        found.append(f"DC offset of {measures.dc_offset:+.3f}")
    return found


def _make(job: CurateJob, row: CurateResult, heard: _Heard) -> CurateResult:
    """The second pass: encode, then estimate tempo and key of what was encoded."""
    settings, notes = job.settings, list(row.notes)
    output = _free_place(job)
    if output is None:
        reason = f"not written: {job.output} and {job.spare} are there, and luthier made neither."
        return replace(row, quality_score=0, reason=reason)
    if output != job.output:
        notes.append(f"{job.output.name} is not what luthier wrote and stays: this is another name")
    elif job.remark:
        notes.append(job.remark)
    if heard.is_cut:
        notes.append(f"cut from {row.duration:.1f} s to {settings.max_duration:g} s")
    target = Target(
        output, settings.sample_rate, settings.bitrate, 10 ** (settings.normalize_peak / 20)
    )
    try:
        encoded = write_at_peak(
            target, lambda: _decoded_again(job) if heard.kept is None else heard.kept, heard.loudest
        )
    except AudioError as error:
        return replace(row, quality_score=0, reason=f"not encoded: {error}")
    row = replace(
        row,
        status="success",
        output_path=str(output),
        duration=round(heard.count / settings.sample_rate, 3),
        notes=notes,
        output_sha256=sha256_of(output),
        output_peak_db=round(decibels(encoded.peak), 2),
        envelope=heard.waveform.pairs(gain=encoded.gain),
    )
    heard.kept = None  # the estimates need the memory
    return row if heard.excerpt is None else _with_music(row, heard.excerpt)


def _free_place(job: CurateJob) -> Path | None:
    """Where a track can go without writing over what somebody else put there."""
    for path in (job.output, job.spare):
        if path is None:
            continue
        if job.ours is None or not os.path.lexists(path):
            return path
        if path.is_file() and not path.is_symlink() and sha256_of(path) in job.ours:
            return path
    return None


def _with_music(row: CurateResult, excerpt: Floats) -> CurateResult:
    tempo = estimate_tempo(excerpt, EXCERPT_RATE)
    key = estimate_key(excerpt, EXCERPT_RATE)
    return replace(
        row,
        bpm=tempo.bpm or None,
        bpm_confidence=tempo.confidence,
        metre=tempo.metre or None,
        beats=list(tempo.beats_s),
        key=key.name,
        key_confidence=key.confidence,
    )


def to_json(result: CurateResult) -> dict[str, object]:
    """A result as the row of `curation.json`."""
    return asdict(result)
