"""The field table of ACE-Step's `/release_task`, row by row: names, defaults, values, ranges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import RequestError
from luthier.music.task_options import NO_EFFECT, NO_EFFECT_ALIASES
from luthier.server.acestep.release_fields import asked_from

RECORDING = Path("a.wav")
# field of ours, value as sent, value as understood, every name that clients use
ROWS: list[tuple[str, Any, Any, str]] = [
    ("prompt", "rain", "rain", "prompt caption"),
    ("lyrics", "la la", "la la", "lyrics"),
    ("bpm", 90, 90, "bpm"),
    ("key", "Am", "A minor", "key_scale keyscale keyScale key"),
    ("time_signature", "6/8", "6", "time_signature timesignature timeSignature"),
    ("vocal_language", "de", "de", "vocal_language vocalLanguage language"),
    (
        "duration_s",
        20,
        20.0,
        "audio_duration duration audioDuration target_duration targetDuration",
    ),
    ("steps", 12, 12, "inference_steps inferenceSteps"),
    ("guidance_scale", 3.5, 3.5, "guidance_scale guidanceScale"),
    ("seed", 42, 42, "seed"),
    ("batch_size", 3, 3, "batch_size"),
    (
        "reference_audio",
        "a.wav",
        RECORDING,
        "reference_audio_path ref_audio_path referenceAudioPath refAudioPath",
    ),
    (
        "source_audio",
        "a.wav",
        RECORDING,
        "src_audio_path ctx_audio_path sourceAudioPath srcAudioPath ctxAudioPath",
    ),
    (
        "audio_codes",
        "<|audio_code_7|><|audio_code_9|>",
        (7, 9),
        "audio_code_string audioCodeString audio_codes",
    ),
    ("instruction", "Do it:", "Do it:", "instruction"),
    ("repaint_start_s", -1.5, -1.5, "repainting_start"),
    ("repaint_end_s", 9, 9.0, "repainting_end"),
    (
        "cover_strength",
        0.3,
        0.3,
        "audio_cover_strength audioCoverStrength cover_strength coverStrength",
    ),
    ("cfg_interval_start", 0.1, 0.1, "cfg_interval_start"),
    ("cfg_interval_end", 0.9, 0.9, "cfg_interval_end"),
    ("infer_method", "sde", "sde", "infer_method inferMethod"),
    ("shift", 2.0, 2.0, "shift"),
    ("timesteps", "0.97,0.5,0", (0.97, 0.5, 0.0), "timesteps"),
    ("cover_noise_strength", 0.2, 0.2, "cover_noise_strength coverNoiseStrength"),
    ("repaint_mode", "aggressive", "aggressive", "repaint_mode"),
    ("repaint_strength", 0.7, 0.7, "repaint_strength"),
    ("repaint_crossfade_frames", 5, 5, "repaint_latent_crossfade_frames"),
    ("repaint_crossfade_s", 0.5, 0.5, "repaint_wav_crossfade_sec"),
    ("sampler_mode", "heun", "heun", "sampler_mode"),
    ("velocity_norm_threshold", 2, 2.0, "velocity_norm_threshold"),
    ("velocity_ema_factor", 0.1, 0.1, "velocity_ema_factor"),
    ("latent_shift", 0.5, 0.5, "latent_shift"),
    ("latent_rescale", 0.9, 0.9, "latent_rescale"),
    ("tracks", "drums", ("drums",), "track_name trackName"),
    ("tracks", ["drums", "bass"], ("drums", "bass"), "track_classes trackClasses instruments"),
    ("normalization_db", -3, -3.0, "normalization_db"),
]
OPTION_ROWS: list[tuple[str, Any, Any, str]] = [
    ("thinking", "yes", True, "thinking"),
    ("sample_mode", "on", True, "sample_mode sampleMode"),
    ("sample_query", "a waltz", "a waltz", "sample_query sampleQuery description desc"),
    ("use_format", 1, True, "use_format useFormat format"),
    ("model", "mini", "mini", "model model_name modelName dit_model ditModel"),
    ("use_random_seed", "false", False, "use_random_seed useRandomSeed"),
    ("audio_format", "FLAC", "flac", "audio_format"),
    ("use_cot_caption", False, False, "use_cot_caption cot_caption cot-caption"),
    ("use_cot_language", "0", False, "use_cot_language cot_language cot-language"),
    ("lm_temperature", 0.5, 0.5, "lm_temperature"),
    ("lm_cfg_scale", 2, 2.0, "lm_cfg_scale"),
    ("lm_top_k", 40, 40, "lm_top_k"),
    ("lm_top_p", 0.8, 0.8, "lm_top_p"),
    ("lm_repetition_penalty", 1.2, 1.2, "lm_repetition_penalty"),
    ("lm_negative_prompt", "noise", "noise", "lm_negative_prompt"),
    ("analysis_only", "true", True, "analysis_only analysisOnly"),
    ("full_analysis_only", 1, True, "full_analysis_only fullAnalysisOnly"),
    ("extract_codes_only", "on", True, "extract_codes_only extractCodesOnly"),
]


def one_by_one(rows: list[tuple[str, Any, Any, str]]) -> list[Any]:
    return [
        pytest.param(field, name, value, meant, id=name)
        for field, value, meant, names in rows
        for name in names.split()
    ]


@pytest.mark.parametrize("place", ["top", "param_obj", "metas", "text"])
@pytest.mark.parametrize(("field", "name", "value", "meant"), one_by_one(ROWS))
def test_a_field_is_found_under_all_its_names(
    field: str, name: str, value: Any, meant: Any, place: str
) -> None:
    said = {name: value}
    body = {
        "top": said,
        "param_obj": {"param_obj": said},
        "metas": {"user_metadata": said},
        "text": {"param_obj": json.dumps(said)},
    }[place]
    asked = asked_from(body)
    assert getattr(asked.music, field) == meant
    assert asked.notes == ()


@pytest.mark.parametrize(("field", "name", "value", "meant"), one_by_one(OPTION_ROWS))
def test_an_option_is_found_under_all_its_names(
    field: str, name: str, value: Any, meant: Any
) -> None:
    assert getattr(asked_from({name: value}).options, field) == meant
    assert getattr(asked_from({"param_obj": {name: value}}).options, field) == meant


@pytest.mark.parametrize("task", ["text2music", "cover", "repaint", "lego", "extract", "complete"])
@pytest.mark.parametrize("name", ["task_type", "taskType"])
def test_every_task_is_known(task: str, name: str) -> None:
    assert asked_from({name: task, "src_audio_path": "a.wav"}).music.task == task


def test_the_defaults() -> None:
    music, options, notes = asked_from({})
    assert (music.prompt, music.lyrics, music.task, music.vocal_language) == (
        "",
        "",
        "text2music",
        "en",
    )
    assert (music.batch_size, music.seed, music.bpm, music.duration_s) == (2, None, None, None)
    assert (music.infer_method, music.cover_strength, music.repaint_start_s) == ("ode", 1.0, 0.0)
    assert (options.audio_format, options.thinking, options.lm_cfg_scale) == ("mp3", False, 2.5)
    assert (options.lm_temperature, options.lm_top_p) == (0.85, 0.9)
    assert notes == ()


def test_the_first_level_that_says_something_counts() -> None:
    body = {"bpm": None, "param_obj": {"bpm": 100}, "metas": {"bpm": 120, "key": "C major"}}
    asked = asked_from(body)
    assert (asked.music.bpm, asked.music.key) == (100, "C major")
    both = {"meta": {"bpm": 80}, "metadata": {"bpm": 70}}  # only the first object is looked at
    assert asked_from(both).music.bpm == 80


@pytest.mark.parametrize("value", ["fast", "nan", "1e999", [1], {}])
def test_what_is_no_number_becomes_the_default_and_is_told(value: Any) -> None:
    if isinstance(value, list):
        with pytest.raises(RequestError, match="bpm"):
            asked_from({"bpm": value})
        return
    asked = asked_from({"bpm": value})
    assert asked.music.bpm is None
    assert "bpm" in asked.notes[0]


def test_empty_text_says_nothing() -> None:
    asked = asked_from({"bpm": "", "key_scale": " ", "audio_duration": "", "model": ""})
    assert asked.music.bpm is asked.music.key is asked.music.duration_s is None
    assert asked.notes == ()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"bpm": 29}, "30 to 300"),
        ({"bpm": 301}, "30 to 300"),
        ({"audio_duration": 601}, "1 to 600"),
        ({"batch_size": 9}, "1 to 8"),
        ({"inference_steps": 0}, "1 to 200"),
        ({"key_scale": "H sharp"}, "key"),
        ({"time_signature": "5"}, "2, 3, 4 or 6"),
        ({"task_type": "sing"}, "task"),
        ({"task_type": "repaint"}, "source_audio"),
        ({"audio_format": "mid"}, "audio_format"),
        ({"lm_temperature": 3}, "lm_temperature"),
        ({"audio_cover_strength": 1.5}, "0"),
        ({"seed": 2**32}, "seed"),
        ({"track_name": "kazoo"}, "kazoo"),
        ({"seeds": True}, "seeds"),
        ({"seeds": 5}, "seeds"),
        ({"seeds": {"a": 1}}, "seeds"),
        ({"param_obj": "{"}, "no JSON"),
        ({"metas": "[" * 100_000}, "no JSON"),
    ],
)
def test_what_is_out_of_range_is_refused_in_a_sentence(body: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        asked_from(body)


@pytest.mark.parametrize("name", sorted(NO_EFFECT | NO_EFFECT_ALIASES))
def test_what_has_no_effect_is_taken_quietly(name: str) -> None:
    assert asked_from({name: "x"}).notes == ()


def test_what_is_unknown_is_ignored_and_told() -> None:
    assert asked_from({"colour": "blue"}).notes == (
        "'colour' is no field of a task: it was ignored.",
    )


@pytest.mark.parametrize(
    ("body", "seed", "seeds"),
    [
        ({"seed": 7}, 7, ()),
        ({"seed": "7"}, 7, ()),
        ({"seed": -1}, None, ()),
        ({"seed": "-1"}, None, ()),
        ({"seed": "what"}, None, ()),
        ({"seed": 7, "use_random_seed": True}, None, ()),
        ({"seed": 7, "use_random_seed": "false"}, 7, ()),
        ({"seed": "7,8,9"}, None, (7, 8, 9)),
        ({"seed": [7, 8]}, None, (7, 8)),
    ],
)
def test_a_seed_counts(body: dict[str, Any], seed: int | None, seeds: tuple[int, ...]) -> None:
    music = asked_from(body).music
    assert (music.seed, music.seeds) == (seed, seeds)
    assert music.batch_size == (len(seeds) or 2)


@pytest.mark.parametrize("lyrics", ["", "[inst]", "[Instrumental]"])
def test_no_lyrics_is_instrumental(lyrics: str) -> None:
    assert asked_from({"lyrics": lyrics}).music.lyrics == ""


def test_adg_is_a_guidance_method() -> None:
    assert asked_from({"use_adg": "true"}).music.guidance_method == "adg"
    assert asked_from({"use_adg": False}).music.guidance_method is None


@pytest.mark.parametrize(
    ("query", "language", "instrumental"),
    [
        ("a German march", "de", False),
        ("sad piano solo", "en", True),
        ("pure music for tea", "en", True),
        ("an instrumental in French", "fr", True),
    ],
)
def test_a_query_hints_at_language_and_voice(query: str, language: str, instrumental: bool) -> None:
    music = asked_from({"sample_query": query}).music
    assert (music.vocal_language, music.instrumental) == (language, instrumental)
