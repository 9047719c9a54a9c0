"""What becomes of a source: repaints, regions, outpainting, covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.music.playing.pipeline import Generated, MusicPipeline
from luthier.music.request import request_from
from tiny import SPEC, tiny_onnx

RATE, SECONDS = SPEC.sample_rate, 3
RAMP = round(0.01 * RATE)


@pytest.fixture(scope="module")
def pipeline() -> MusicPipeline:
    return MusicPipeline(tiny_onnx("fp32"), threads=1)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    noise = 0.2 * np.random.default_rng(0).standard_normal((2, SECONDS * RATE))
    write_audio(tmp_path / "source.wav", noise.astype(np.float32), RATE)
    return tmp_path / "source.wav"


def repaint(pipeline: MusicPipeline, recording: Path, **asked: Any) -> Generated:
    values = {"task": "repaint", "source_audio": recording, "prompt": "x", "seed": 1}
    return pipeline.generate(request_from(values | asked))


def source_of(recording: Path) -> NDArray[np.float32]:
    return read_audio(recording)[0]


def changed(made: Generated, recording: Path, before_s: float = 0) -> NDArray[np.bool_]:
    """Which samples of the source are other than they were."""
    source, first = source_of(recording), round(before_s * RATE)
    return np.any(made.audio[:, first : first + source.shape[1]] != source, axis=0)


def test_outside_a_repaint_every_sample_is_the_sources(
    pipeline: MusicPipeline, recording: Path
) -> None:
    made = repaint(pipeline, recording, repaint_start=1, repaint_end=2)
    other = changed(made, recording)
    assert made.audio.shape == (2, SECONDS * RATE)
    assert not other[: RATE - RAMP].any()
    assert not other[2 * RATE + RAMP :].any()
    assert other[RATE : 2 * RATE].mean() > 0.99


def test_a_written_repaint_is_the_source_bit_by_bit(
    pipeline: MusicPipeline, recording: Path, tmp_path: Path
) -> None:
    made = repaint(pipeline, recording, repaint_start=1, repaint_end=2)
    write_audio(tmp_path / "made.wav", made.audio, RATE)
    written = source_of(tmp_path / "made.wav")
    assert np.array_equal(written[:, : RATE - RAMP], source_of(recording)[:, : RATE - RAMP])


@pytest.mark.parametrize(("crossfade_s", "ramp"), [(0, 0), (0.1, 799)])
def test_the_cross_fade_lies_outside_the_window(
    pipeline: MusicPipeline, recording: Path, crossfade_s: float, ramp: int
) -> None:
    made = repaint(
        pipeline, recording, repaint_start=1, repaint_end=2, repaint_crossfade_s=crossfade_s
    )
    other = np.flatnonzero(changed(made, recording))
    assert other[0] == pytest.approx(RATE - ramp, abs=2 + ramp / 50)
    assert other[-1] == pytest.approx(2 * RATE - 1 + ramp, abs=2 + ramp / 50)


def test_several_regions(pipeline: MusicPipeline, recording: Path) -> None:
    other = changed(repaint(pipeline, recording, repaint_regions="0.2:0.8,2:2.5"), recording)
    inside = np.zeros(SECONDS * RATE, bool)
    for start, end in ((0.2, 0.8), (2, 2.5)):
        inside[round(start * RATE) - RAMP : round(end * RATE) + RAMP] = True
    assert not other[~inside].any()
    assert other[inside].mean() > 0.9


@pytest.mark.parametrize(
    ("asked", "before_s", "total_s"),
    [
        ({"repaint_start": -1, "repaint_end": 0}, 1, 4),
        ({"repaint_start": -0.5, "repaint_end": 0.5}, 0.5, 3.5),
        ({"repaint_start": 3, "repaint_end": 4.5}, 0, 4.5),
        ({"repaint_regions": "-1:0,3:4"}, 1, 5),
    ],
)
def test_outpainting_adds_and_keeps(
    pipeline: MusicPipeline, recording: Path, asked: dict[str, Any], before_s: float, total_s: float
) -> None:
    made = repaint(pipeline, recording, **asked)
    assert made.audio.shape == (2, round(total_s * RATE))
    assert made.request.duration_s == total_s
    kept = slice(round(0.6 * RATE), round(2.9 * RATE))
    assert not changed(made, recording, before_s)[kept].any()
    if before_s:
        assert np.abs(made.audio[:, : round(before_s * RATE) - RAMP]).max() > 1e-4


def test_a_repaint_is_never_louder_than_the_peak_or_its_source(
    pipeline: MusicPipeline, recording: Path
) -> None:
    made = repaint(pipeline, recording, repaint_start=1, repaint_end=2)
    ceiling = max(10 ** (-1 / 20), float(np.abs(source_of(recording)).max()))
    assert np.abs(made.audio).max() <= ceiling + 1e-6


def test_modes_hold_the_source_longer_and_blend_wider(
    pipeline: MusicPipeline, recording: Path
) -> None:
    window = {"repaint_start": 1, "repaint_end": 2}
    source = pipeline.encoder.latents_of(source_of(recording))

    def kept(**asked: Any) -> NDArray[np.bool_]:
        latents = repaint(pipeline, recording, **window, **asked).latents
        return np.all(np.abs(latents - source) < 1e-5, axis=(0, 2))

    free = kept(repaint_mode="aggressive")
    balanced = kept(repaint_mode="balanced")
    close = kept(repaint_mode="conservative")
    assert not free.any()
    assert balanced[:25].all()  # half a second of ramp before frame 50
    assert not balanced[26:50].any()
    assert np.delete(close, slice(50, 100)).all()  # held to the last step
    assert kept(repaint_crossfade_frames=10)[:40].all()
    assert np.array_equal(kept(repaint_strength=1.0), free)


def test_a_balanced_repaint_knows_more_of_its_source(
    pipeline: MusicPipeline, recording: Path
) -> None:
    made = {
        mode: repaint(pipeline, recording, repaint_start=1, repaint_end=2, repaint_mode=mode)
        for mode in ("conservative", "balanced", "aggressive")
    }
    inside = {mode: piece.latents[:, 50:100] for mode, piece in made.items()}
    assert np.abs(inside["balanced"] - inside["aggressive"]).max() > 1e-4
    assert np.abs(inside["balanced"] - inside["conservative"]).max() > 1e-4


@pytest.mark.parametrize("task", ["extract", "lego", "complete"])
def test_the_source_is_heard_in_these_tasks(
    pipeline: MusicPipeline, recording: Path, tmp_path: Path, task: str
) -> None:
    """Were it replaced by silence, another source would make no difference."""
    other = tmp_path / "other.wav"
    write_audio(other, 0.5 * source_of(recording)[:, ::-1], RATE)
    one, two = (
        pipeline.generate(
            request_from({"task": task, "source_audio": path, "tracks": "drums", "seed": 1})
        ).latents
        for path in (recording, other)
    )
    assert np.abs(one - two).max() > 1e-3


def test_a_cover_can_start_near_its_source(pipeline: MusicPipeline, recording: Path) -> None:
    source = pipeline.encoder.latents_of(source_of(recording))

    def distance(strength: float) -> float:
        asked = {"task": "cover", "source_audio": recording, "seed": 1, "steps": 10}
        made = pipeline.generate(request_from(asked | {"cover_noise_strength": strength}))
        return float(np.abs(made.latents - source).mean())

    assert distance(0.9) < distance(0.5) < distance(0.0)


def test_latents_can_be_shifted_and_rescaled(pipeline: MusicPipeline) -> None:
    asked = {"prompt": "x", "seed": 1, "duration": 1.0}
    plain = pipeline.generate(request_from(asked))
    moved = pipeline.generate(request_from(asked | {"latent_shift": 0.2, "latent_rescale": 0.9}))
    assert np.array_equal(plain.latents, moved.latents)
    assert np.abs(plain.audio - moved.audio).max() > 1e-3


def test_peak_and_fades(pipeline: MusicPipeline) -> None:
    asked = {"prompt": "x", "seed": 1, "duration": 2.0, "normalization_db": -6}
    made = pipeline.generate(request_from(asked)).audio
    assert np.abs(made).max() == pytest.approx(10 ** (-6 / 20), abs=1e-6)
    faded = pipeline.generate(request_from(asked | {"fade_in_s": 0.5, "fade_out_s": 1})).audio
    assert np.abs(faded[:, 0]).max() < 1e-3
    assert np.abs(faded[:, -1]).max() < 1e-3
    middle = slice(RATE // 2, RATE)
    assert np.array_equal(faded[:, middle], made[:, middle])
    assert faded[:, RATE // 4] == pytest.approx(made[:, RATE // 4] / 2, rel=1e-2, abs=1e-5)
