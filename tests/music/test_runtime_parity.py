"""Our torch-free runtime against diffusers' AceStepPipeline: same weights, noise and request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution

from luthier.audio.decode import read_audio
from luthier.audio.highpass import high_passed
from luthier.music.request import request_from
from tiny_ace_onnx import Floats, Pair, pair

RMSE, LARGEST, SNR_DB = 5e-4, 1e-1, 35.0
WINDOW = {"repaint_start": 0.5, "repaint_end": 1.7}
CODES = tuple(range(100, 130))
SIX = ("text2music", "cover", "repaint", "extract", "lego", "complete")


@pytest.fixture(autouse=True)
def _mean_of_the_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours takes the mean, so that the same source gives the same piece; diffusers draws."""
    monkeypatch.setattr(
        OobleckDiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode()
    )


def heard(path: Any) -> torch.Tensor:
    return torch.from_numpy(read_audio(path)[0])


def asked_of_both(
    models: Pair, task: str, *, timbre: bool = False, frames: int = 141
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One request in our words and in diffusers'."""
    ours: dict[str, Any] = {"task": task}
    theirs: dict[str, Any] = {"task_type": task}
    if task == "text2music":
        ours["duration"] = theirs["audio_duration"] = models.seconds(frames)
    else:
        ours["source_audio"] = models.source
        theirs |= {"src_audio": heard(models.source), "audio_duration": None}
    if task in ("repaint", "lego"):
        ours |= WINDOW
        theirs |= {"repainting_start": 0.5, "repainting_end": 1.7}
    if task == "repaint":
        ours["repaint_mode"] = "aggressive"  # the others hold the source, as the original does
    if task in ("extract", "lego"):
        ours["tracks"], theirs["track_name"] = "drums", "drums"
    if task == "complete":
        ours["tracks"], theirs["complete_track_classes"] = "bass,drums", ["bass", "drums"]
    if timbre:
        ours["reference_audio"] = models.reference
        theirs["reference_audio"] = heard(models.reference)
    return ours, theirs


def assert_same(ours: Floats, theirs: Floats) -> None:
    assert ours.shape == theirs.shape
    assert np.sqrt(np.mean((ours - theirs) ** 2)) <= RMSE
    assert np.abs(ours - theirs).max() <= LARGEST


def snr_db(ours: Floats, theirs: Floats, rate: int) -> float:
    """Of sound whose low end was taken out and whose peak was set, as ours has it."""
    assert ours.shape == theirs.shape
    theirs = np.concatenate(list(high_passed(iter([theirs]), rate)), axis=1)
    theirs = theirs * (np.abs(ours).max() / np.abs(theirs).max())
    return float(10 * np.log10(np.sum(theirs**2) / np.sum((ours - theirs) ** 2)))


@pytest.mark.parametrize("task", SIX)
def test_base_does_the_six_tasks_with_guidance(task: str) -> None:
    models = pair(turbo=False)
    ours, theirs = asked_of_both(models, task)
    made = models.play(**ours, steps=6, guidance_scale=7)
    assert_same(made.latents, models.play_theirs(made, **theirs))


@pytest.mark.parametrize("task", ["text2music", "cover", "repaint"])
def test_turbo_with_a_reference(task: str) -> None:
    models = pair(turbo=True)
    ours, theirs = asked_of_both(models, task, timbre=True)
    made = models.play(**ours)
    assert made.request.steps == 8
    assert_same(made.latents, models.play_theirs(made, **theirs))


@pytest.mark.parametrize("task", ["text2music", "extract"])
def test_the_sound_is_the_same(task: str) -> None:
    models = pair(turbo=False)
    ours, theirs = asked_of_both(models, task)
    made = models.play(**ours, steps=4, guidance_scale=1)
    sound = models.play_theirs(made, **theirs, output_type="pt")[0]
    assert snr_db(made.audio, sound, models.ours.spec.sample_rate) >= SNR_DB


def test_audio_codes_are_a_cover() -> None:
    models = pair(turbo=True)
    made = models.play(audio_codes=CODES)
    text = "".join(f"<|audio_code_{code}|>" for code in CODES)
    assert made.request.task == "cover"
    assert made.request.duration_s == models.seconds(5 * len(CODES))
    seconds = made.request.duration_s
    assert_same(made.latents, models.play_theirs(made, audio_codes=text, audio_duration=seconds))
    again = models.play(audio_codes=text)
    assert np.array_equal(made.latents, again.latents)


def test_words_lyrics_and_an_own_instruction_are_the_same() -> None:
    models = pair(turbo=True)
    seconds = models.seconds(130)
    made = models.play(
        lyrics="[verse]\nla la", instrumental=False, vocal_language="fr", time_signature="3",
        instruction="Do what you like", duration=seconds,
    )  # fmt: skip
    theirs = models.play_theirs(
        made, lyrics="[verse]\nla la", vocal_language="fr", timesignature="3",
        instruction="Do what you like", audio_duration=seconds,
    )  # fmt: skip
    assert_same(made.latents, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 3.0, 15.0])
@pytest.mark.parametrize("timbre", [False, True])
@pytest.mark.parametrize("task", SIX)
def test_base_in_every_combination(task: str, timbre: bool, guidance: float) -> None:
    models = pair(turbo=False)
    ours, theirs = asked_of_both(models, task, timbre=timbre, frames=157)
    made = models.play(**ours, steps=12, guidance_scale=guidance, shift=3)
    assert_same(made.latents, models.play_theirs(made, **theirs))
    sound = models.play_theirs(made, **theirs, output_type="pt")[0]
    if task != "repaint":  # which puts the source back
        assert snr_db(made.audio, sound, models.ours.spec.sample_rate) >= SNR_DB


@pytest.mark.slow
@pytest.mark.parametrize("frames", [128, 129, 150, 333, 512])
@pytest.mark.parametrize("turbo", [True, False])
def test_lengths_even_and_odd(turbo: bool, frames: int) -> None:
    models = pair(turbo=turbo)
    ours, theirs = asked_of_both(models, "text2music", frames=frames)
    made = models.play(**ours, **({} if turbo else {"steps": 8}))
    assert made.latents.shape[1] == frames
    assert_same(made.latents, models.play_theirs(made, **theirs))
    sound = models.play_theirs(made, **theirs, output_type="pt")[0]
    assert snr_db(made.audio, sound, models.ours.spec.sample_rate) >= SNR_DB


def test_differs_guidance_interval_counts_time_as_the_original_does() -> None:
    """Ours: guided where start ≤ t ≤ end, t falling from 1. diffusers counts 1 − t."""
    models = pair(turbo=False)
    seconds = models.seconds(130)
    made = models.play(
        duration=seconds, steps=10, guidance_scale=7, cfg_interval_start=0.45, cfg_interval_end=0.85
    )
    mirrored = {"cfg_interval_start": 0.15, "cfg_interval_end": 0.55}
    assert_same(made.latents, models.play_theirs(made, audio_duration=seconds, **mirrored))
    same = {"cfg_interval_start": 0.45, "cfg_interval_end": 0.85}
    other = models.play_theirs(made, audio_duration=seconds, **same)
    assert np.abs(made.latents - other).max() > 1e-2


def test_differs_cover_strength_switches_where_diffusers_blends() -> None:
    """The original follows the codes in the first steps and the words alone in the rest."""
    models = pair(turbo=True)
    ours, theirs = asked_of_both(models, "cover")
    made = models.play(**ours, cover_strength=0.5)
    kept: list[torch.Tensor] = []

    def keep(_pipe: Any, _step: int, _time: float, values: dict[str, Any]) -> None:
        kept.append(values["latents"].clone())

    models.play_theirs(made, **theirs, callback_on_step_end=keep)
    times = (1.0, 0.954545, 0.9, 0.833333, 0.75, 0.642857, 0.5, 0.3)
    rest = models.play_theirs(
        made, latents=kept[3], audio_duration=made.request.duration_s, timesteps=list(times[4:])
    )
    assert_same(made.latents, rest)
    blended = models.play_theirs(made, **theirs, audio_cover_strength=0.5)
    assert np.abs(made.latents - blended).max() > 1e-2


def test_differs_no_lyrics_are_instrumental() -> None:
    models = pair(turbo=True)
    seconds = models.seconds(130)
    made = models.play(lyrics="", instrumental=False, duration=seconds)
    assert_same(made.latents, models.play_theirs(made, audio_duration=seconds))
    other = models.play_theirs(made, lyrics="", audio_duration=seconds)
    assert np.abs(made.latents - other).max() > 1e-4


def test_differs_short_pieces_are_padded_with_silence_to_the_least_length() -> None:
    models = pair(turbo=True)
    made = models.play(duration=1.0)
    assert made.latents.shape[1] == models.ours.spec.min_frames == 128
    assert made.audio.shape[1] == models.ours.spec.sample_rate


def test_differs_turbo_snaps_shift_and_times_to_what_it_knows() -> None:
    models = pair(turbo=True)
    seconds = models.seconds(130)
    made = models.play(duration=seconds, shift=2.2)
    assert_same(made.latents, models.play_theirs(made, audio_duration=seconds, shift=2.0))
    own = models.play(duration=seconds, timesteps="0.97,0.76,0.4,0")
    theirs = {"audio_duration": seconds, "timesteps": [0.954545, 0.769231, 0.4]}
    assert_same(own.latents, models.play_theirs(own, **theirs))


def test_differs_a_source_is_encoded_to_the_mean() -> None:
    models = pair(turbo=True)
    asked = {"task": "cover", "source_audio": models.source}
    one, again = (models.play(**asked).latents for _ in range(2))
    assert np.array_equal(one, again)


def test_a_silent_reference_is_none() -> None:
    models = pair(turbo=True)
    encoder = models.ours.encoder
    quiet = models.source.with_name("quiet.wav")
    from tiny_ace_onnx import recording

    recording(quiet, np.zeros((2, 6400), np.float32), models.ours.spec.sample_rate)
    assert np.array_equal(encoder.reference(quiet), encoder.reference(None))
    assert request_from({"reference_audio": quiet}).reference_audio == quiet
