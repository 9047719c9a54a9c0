"""ACE-Step's table of `/release_task`'s fields, row by row: every name, the default, what text and
wrong values become, and the range. What the values mean is in test_server_fields.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from luthier.errors import RequestError
from luthier.server.acestep.release_fields import Asked, asked_from

FREE = "no effect"  # taken, with nothing to decide
MODEL = "the model's own"


class Row(NamedTuple):
    """A row: upstream's name, its other names, its type, our field, the default, the range."""

    name: str
    others: str
    kind: str
    ours: str
    default: Any = None
    low: float | None = None
    high: float | None = None


TABLE = [
    Row("prompt", "caption", "str", "prompt", ""),
    Row("lyrics", "", "str", "lyrics", ""),
    Row("thinking", "", "bool", "thinking", False),
    Row("sample_mode", "sampleMode", "bool", "sample_mode", False),
    Row("sample_query", "sampleQuery description desc", "str", "sample_query", ""),
    Row("use_format", "useFormat format", "bool", "use_format", False),
    Row("model", "model_name modelName dit_model ditModel", "str", "model"),
    Row("bpm", "", "int", "bpm", None, 30, 300),
    Row("key_scale", "keyscale keyScale key", "str", "key"),
    Row("time_signature", "timesignature timeSignature", "str", "time_signature"),
    Row("vocal_language", "vocalLanguage language", "str", "vocal_language", "en"),
    Row(
        "audio_duration",
        "duration audioDuration target_duration targetDuration",
        "float",
        "duration_s",
        None,
        1,
        600,
    ),
    Row("inference_steps", "inferenceSteps", "int", "steps", MODEL, 1, 200),
    Row("guidance_scale", "guidanceScale", "float", "guidance_scale", MODEL, 1, 30),
    Row("use_random_seed", "useRandomSeed", "bool", "use_random_seed", None),
    Row("seed", "", "seed", "seed", None, None, 2**32 - 1),
    Row("batch_size", "", "int", "batch_size", 2, 1, 8),
    Row(
        "reference_audio_path",
        "ref_audio_path referenceAudioPath refAudioPath",
        "str",
        "reference_audio",
    ),
    Row(
        "src_audio_path",
        "ctx_audio_path sourceAudioPath srcAudioPath ctxAudioPath",
        "str",
        "source_audio",
    ),
    Row("audio_code_string", "audioCodeString audio_codes", "codes", "audio_codes", ()),
    Row("task_type", "taskType", "task", "task", "text2music"),
    Row("instruction", "", "str", "instruction"),
    Row("repainting_start", "", "float", "repaint_start_s", 0.0, -600, 600),
    Row("repainting_end", "", "float", "repaint_end_s", None, None, 600),
    Row(
        "audio_cover_strength",
        "audioCoverStrength cover_strength coverStrength",
        "float",
        "cover_strength",
        1.0,
        0,
        1,
    ),
    Row("analysis_only", "analysisOnly", "bool", "analysis_only", False),
    Row("full_analysis_only", "fullAnalysisOnly", "bool", "full_analysis_only", False),
    Row("use_adg", "", "bool", "guidance_method"),
    Row("cfg_interval_start", "", "float", "cfg_interval_start", 0.0, 0, 1),
    Row("cfg_interval_end", "", "float", "cfg_interval_end", 1.0, 0, 1),
    Row("infer_method", "inferMethod", "ode", "infer_method", "ode"),
    Row("shift", "", "float", "shift", MODEL, None, 10),
    Row("timesteps", "", "times", "timesteps"),
    Row("audio_format", "", "format", "audio_format", "mp3"),
    Row("use_tiled_decode", "useTiledDecode", "bool", FREE),
    Row("lm_model_path", "", "str", FREE),
    Row("lm_backend", "", "str", FREE),
    Row("constrained_decoding", "constrainedDecoding constrained", "bool", FREE),
    Row("constrained_decoding_debug", "constrainedDecodingDebug", "bool", FREE),
    Row("use_cot_caption", "cot_caption cot-caption", "bool", "use_cot_caption", True),
    Row("use_cot_language", "cot_language cot-language", "bool", "use_cot_language", True),
    Row("is_format_caption", "isFormatCaption", "bool", FREE),
    Row("allow_lm_batch", "allowLmBatch parallel_thinking", "bool", FREE),
    Row("lm_temperature", "", "float", "lm_temperature", 0.85, 0, 2),
    Row("lm_cfg_scale", "", "float", "lm_cfg_scale", 2.5, 1, 10),
    Row("lm_top_k", "", "int", "lm_top_k", None, 0),
    Row("lm_top_p", "", "float", "lm_top_p", 0.9, None, 1),
    Row("lm_repetition_penalty", "", "float", "lm_repetition_penalty", 1.0, 0.5, 2),
    Row("lm_negative_prompt", "", "str", "lm_negative_prompt", "NO USER INPUT"),
    # The later generation's.
    Row("global_caption", "", "str", FREE),
    Row("extract_codes_only", "extractCodesOnly", "bool", "extract_codes_only", False),
    Row("cover_noise_strength", "coverNoiseStrength", "float", "cover_noise_strength", 0.0, 0, 1),
    Row("chunk_mask_mode", "", "str", FREE),
    Row("repaint_mode", "", "repaint", "repaint_mode", "balanced"),
    Row("repaint_strength", "", "float", "repaint_strength", 0.5, 0, 1),
    Row("repaint_latent_crossfade_frames", "", "int", "repaint_crossfade_frames", None, 0, 250),
    Row("repaint_wav_crossfade_sec", "", "float", "repaint_crossfade_s", 0.01, 0, 20),
    Row("sampler_mode", "", "sampler", "sampler_mode", "euler"),
    Row("velocity_norm_threshold", "", "float", "velocity_norm_threshold", 0.0, 0, 5),
    Row("velocity_ema_factor", "", "float", "velocity_ema_factor", 0.0, 0, 0.5),
    Row("eta", "", "float", FREE),
    Row("momentum", "", "float", FREE),
    Row("latent_shift", "", "float", "latent_shift", 0.0, -10, 10),
    Row("latent_rescale", "", "float", "latent_rescale", 1.0, None, 10),
    Row("track_name", "trackName", "track", "tracks", ()),
    Row("track_classes", "trackClasses instruments", "track", "tracks", ()),
    Row("guidance_variant", "", "str", FREE),
    Row("guidance_params", "", "str", FREE),
    Row("enable_normalization", "", "bool", FREE),
    Row("normalization_db", "", "float", "normalization_db", -1.0, -24, 0),
    Row("fade_in_duration", "", "float", "fade_in_s", 0.0, 0, 60),
    Row("fade_out_duration", "", "float", "fade_out_s", 0.0, 0, 60),
    Row("dcw_enabled", "", "bool", FREE),
    Row("dcw_mode", "", "str", FREE),
    Row("dcw_scaler", "", "float", FREE),
    Row("dcw_high_scaler", "", "float", FREE),
    Row("dcw_wavelet", "", "str", FREE),
]
# of a kind: how a value is written in a form, and what it becomes
SENT: dict[str, tuple[str, Any]] = {
    "str": ("4", "4"),
    "bool": ("Yes", True),
    "int": ("1", 1),
    "float": ("0.5", 0.5),
    "seed": ("7", 7),
    "codes": ("<|audio_code_7|>", (7,)),
    "task": ("text2music", "text2music"),
    "ode": ("sde", "sde"),
    "times": ("0.97,0.5,0", (0.97, 0.5, 0.0)),
    "format": ("FLAC", "flac"),
    "repaint": ("aggressive", "aggressive"),
    "sampler": ("heun", "heun"),
    "track": ("drums", ("drums",)),
}
# where the usual text of a kind is no value of the field
OTHERWISE: dict[str, tuple[str, Any]] = {
    "bpm": ("90.0", 90),
    "key_scale": ("Am", "A minor"),
    "use_adg": ("on", "adg"),
    "audio_duration": ("20.5", 20.5),
    "guidance_scale": ("3.5", 3.5),
    "lm_cfg_scale": ("2.5", 2.5),
    "normalization_db": ("-3", -3.0),
}


def value_of(asked: Asked, field: str) -> Any:
    return getattr(asked.music if hasattr(asked.music, field) else asked.options, field)


def rows(*kinds: str) -> list[Any]:
    chosen = [r for r in TABLE if r.ours != FREE and (not kinds or r.kind in kinds)]
    return [pytest.param(row, id=row.name) for row in chosen]


NAMES = [
    pytest.param(row, name, id=name) for row in TABLE for name in (row.name, *row.others.split())
]


@pytest.mark.parametrize(("row", "name"), NAMES)
def test_text_of_a_form_means_the_value_under_every_name(row: Row, name: str) -> None:
    text, meant = OTHERWISE.get(row.name, SENT[row.kind])
    asked = asked_from({name: text})
    assert asked.notes == ()
    if row.ours != FREE:
        found = value_of(asked, row.ours)
        assert (str(found) if row.ours.endswith("_audio") else found) == meant


@pytest.mark.parametrize("row", rows())
@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_the_default_stands_where_nothing_is_said(row: Row, nothing: Any) -> None:
    asked = asked_from({row.name: nothing})
    assert value_of(asked, row.ours) == (None if row.default == MODEL else row.default)
    assert asked.notes == ()


@pytest.mark.parametrize("row", rows("int", "float"))
def test_what_is_no_number_is_the_default_and_told(row: Row) -> None:
    asked = asked_from({row.name: "fast"})
    assert value_of(asked, row.ours) == (None if row.default == MODEL else row.default)
    assert "no number: its default was taken" in asked.notes[0]


@pytest.mark.parametrize("row", rows("bool"))
def test_what_is_true(row: Row) -> None:
    for text in (1, "1", "true", "TRUE", "yes", "y", "on", True):
        assert value_of(asked_from({row.name: text}), row.ours) in (True, "adg")
    for text in (0, "0", "false", "no", "maybe", False):
        assert value_of(asked_from({row.name: text}), row.ours) in (False, None)


LIMITS = [
    pytest.param(row, limit, beyond, id=f"{row.name} {limit:g}")
    for row in TABLE
    for limit, beyond in ((row.low, -1), (row.high, 1))
    if limit is not None
]


@pytest.mark.parametrize(("row", "limit", "beyond"), LIMITS)
def test_the_range_is_kept_and_beyond_it_is_refused(row: Row, limit: float, beyond: int) -> None:
    number = int(limit) if row.kind in ("int", "seed") else limit
    assert value_of(asked_from({row.name: number}), row.ours) == number
    step = 1 if row.kind in ("int", "seed") else 0.5
    with pytest.raises(RequestError):
        asked_from({row.name: number + beyond * step})
