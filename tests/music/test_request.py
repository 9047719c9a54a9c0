from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import RequestError
from luthier.music.request import MusicRequest, request_fields, request_from
from luthier.music.resolve import resolve
from tiny import SPEC


def test_defaults_are_the_models() -> None:
    resolved = resolve(request_from({"prompt": "x"}), SPEC)
    assert (resolved.steps, resolved.shift, resolved.guidance_scale) == (4, 1.0, 2.0)
    assert resolved.duration_s == 30.0
    assert resolved.bpm is None


def test_text_as_a_command_line_gives_it() -> None:
    request = request_from({"bpm": "84", "key": "Am", "time_signature": "3/4", "duration": "2.5"})
    assert (request.bpm, request.key, request.time_signature) == (84, "A minor", "3")
    assert request.duration_s == 2.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bpm": 0}, "bpm is 0: it must be 30 to 300 beats per minute"),
        ({"bpm": 1000}, "bpm is 1000: it must be 30 to 300 beats per minute"),
        ({"bpm": "fast"}, "bpm is 'fast'"),
        ({"key": "H moll"}, "not a key"),
        ({"time_signature": "5/4"}, "2, 3, 4 or 6"),
        ({"duration": 0}, "1 to 600 seconds"),
        ({"duration": 10_000}, "1 to 600 seconds"),
        ({"duration": float("nan")}, "duration_s is nan"),
        ({"bmp": 90}, "Did you mean 'bpm'"),
        ({"tracks": "drms"}, "did you mean drums"),
        ({"task": "remix"}, "text2music"),
        ({"task": "repaint"}, "give source_audio"),
        ({"repaint_start": 3, "repaint_end": 2}, "before it starts"),
        ({"repaint_end": -5}, "repaint_end_s is -5: it must be 0 to 600 seconds"),
        ({"regions": "1-2"}, "Did you mean 'repaint_regions'"),
        ({"repaint_regions": "1-2"}, "write each region as start:end"),
        ({"repaint_regions": "1:2", "repaint_start": 4}, "or one window, not both"),
        ({"audio_codes": "64000"}, "code 64000 does not exist: codes are 0 to 63999"),
        ({"audio_codes": "la la"}, "write audio codes as"),
        ({"audio_codes": (1,), "task": "lego", "source_audio": "x"}, "not for lego"),
        ({"seeds": "1,2", "batch_size": 3}, "2 seeds for 3 pieces"),
        ({"sampler_mode": "heun", "infer_method": "sde"}, "choose one of them"),
        ({"infer_method": "dpm"}, "'ode' or 'sde'"),
        ({"timesteps": "0.1,0.5"}, "must fall"),
        ({"timesteps": "0"}, "must fall"),
        ({"seed": 2**32}, "0 to 4294967295"),
        ({"cfg_interval_start": 0.9, "cfg_interval_end": 0.1}, "must not be above"),
    ],
)
def test_refusals_are_sentences(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        request_from(values)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_upstream_names_and_values() -> None:
    request = request_from(
        {
            "caption": "x",
            "keyScale": "C Major",
            "audio_duration": 12,
            "seed": -1,
            "repainting_end": -1,
            "track_name": "Backing Vocals",
            "taskType": "text2music",
            "inferenceSteps": 12,
        }
    )
    assert (request.prompt, request.key, request.duration_s) == ("x", "C major", 12.0)
    assert (request.seed, request.repaint_end_s, request.steps) == (None, None, 12)
    assert request.tracks == ("backing_vocals",)


def test_audio_codes_as_a_planner_writes_them() -> None:
    codes = (3, 63999)
    assert (
        request_from({"audio_codes": "<|audio_code_3|>\n<|audio_code_63999|>"}).audio_codes == codes
    )
    assert request_from({"audioCodeString": "3, 63999"}).audio_codes == codes
    assert request_from({"audio_codes": ""}).audio_codes == ()


def test_codes_make_a_cover_as_long_as_they_are() -> None:
    resolved = resolve(request_from({"audio_codes": (1,) * 10}), SPEC)
    assert (resolved.task, resolved.duration_s) == ("cover", 2.0)


def test_seeds_of_a_batch() -> None:
    assert request_from({"seeds": "5,7"}).piece_seeds == (5, 7)
    assert request_from({"seed": "5,7,9"}).batch_size == 3
    assert request_from({"seed": 2**32 - 1, "batch_size": 2}).piece_seeds == (2**32 - 1, 0)
    assert request_from({"batch_size": 2}).piece_seeds == (None, None)


def test_regions_as_text() -> None:
    request = request_from({"repaint_regions": "-2:1,5:"})
    assert request.windows == ((-2.0, 1.0), (5.0, None))
    assert request_from({"repaint_start": 1}).windows == ((1.0, None),)


def test_adg_as_upstream_asks_for_it() -> None:
    assert request_from({"use_adg": "true"}).guidance_method == "adg"
    assert request_from({"use_adg": False}).guidance_method is None


@pytest.mark.parametrize(
    ("values", "duration_s"),
    [
        ({"repaint_start": 1, "repaint_end": 2}, 5.0),
        ({"repaint_start": -2, "repaint_end": 1}, 7.0),
        ({"repaint_start": 4, "repaint_end": 8}, 8.0),
        ({"repaint_start": 5, "repaint_end": 8}, 8.0),
        ({"repaint_regions": "-1:1,4:6"}, 7.0),
    ],
)
def test_a_repaint_is_as_long_as_source_and_windows(
    values: dict[str, Any], duration_s: float
) -> None:
    request = request_from({"task": "repaint", "source_audio": "x.wav"} | values)
    resolved = resolve(request, SPEC, 5.0)
    assert resolved.duration_s == duration_s
    assert resolve(resolved, SPEC, 5.0) == resolved


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"repaint_start": 6}, "starts at 6 s, but the recording is 5 s long"),
        ({"repaint_regions": "1:2,5.5:7"}, "starts at 5.5 s"),
        ({"task": "lego", "repaint_start": -1}, "only the task repaint makes a recording longer"),
        ({"task": "lego", "repaint_end": 6}, "reaches beyond the recording of 5 s"),
        ({"duration": 9}, "the result of this repaint is 5 seconds"),
        ({"repaint_end": 61}, "at most 60 seconds"),
    ],
)
def test_windows_outside_are_refused(values: dict[str, Any], message: str) -> None:
    request = request_from({"task": "repaint", "source_audio": "x.wav"} | values)
    with pytest.raises(RequestError, match=message):
        resolve(request, SPEC, 5.0)


def test_the_first_alias_that_says_something_wins() -> None:
    assert request_from({"duration": None, "audio_duration": 7}).duration_s == 7


def test_tracks_can_have_a_guidance_of_their_own() -> None:
    spec = SPEC.model_copy(update={"track_guidance": 1.5})
    lego = {"task": "lego", "source_audio": "x.wav"}
    assert resolve(request_from(lego), spec, 5.0).guidance_scale == 1.5
    assert resolve(request_from(lego | {"guidance_scale": 3}), spec, 5.0).guidance_scale == 3.0
    assert resolve(request_from(lego), SPEC, 5.0).guidance_scale == SPEC.default_guidance
    repaint = request_from(lego | {"task": "repaint"})
    assert resolve(repaint, spec, 5.0).guidance_scale == SPEC.default_guidance


def test_a_task_the_model_does_not_know_is_refused() -> None:
    spec = SPEC.model_copy(update={"tasks": ("text2music",)})
    request = request_from({"task": "cover", "source_audio": "x.wav"})
    with pytest.raises(RequestError, match="not trained for the task cover: it does text2music"):
        resolve(request, spec, 5.0)


def test_a_piece_longer_than_the_model_can_make_is_refused() -> None:
    with pytest.raises(RequestError, match="at most 60 seconds"):
        resolve(request_from({"duration": 61}), SPEC)


def test_guidance_is_off_for_turbo() -> None:
    spec = SPEC.model_copy(update={"is_turbo": True})
    assert resolve(request_from({"guidance_scale": 5}), spec).guidance_scale == 1.0


def test_every_field_has_a_flag_and_help() -> None:
    fields = request_fields()
    flags = [field.flag for field in fields]
    names = [*MusicRequest.model_fields, *(alias for f in fields for alias in f.aliases)]
    assert len(set(flags)) == len(flags)
    assert len(set(names)) == len(names)
    assert all(field.help for field in fields)
    assert "30 to 300" in next(f.help for f in fields if f.name == "bpm")


@given(
    st.builds(
        dict,
        prompt=st.text(max_size=40),
        bpm=st.none() | st.integers(30, 300),
        seed=st.none() | st.integers(0, 2**32 - 1),
        duration_s=st.none() | st.floats(1, 600),
        tracks=st.lists(st.sampled_from(["drums", "bass", "vocals"]), max_size=3),
    )
)
def test_a_request_survives_json(values: dict[str, Any]) -> None:
    request = request_from(values)
    assert request_from(request.model_dump(mode="json")) == request


def test_paths_survive_json() -> None:
    request = request_from({"task": "repaint", "source_audio": "a b.wav"})
    assert request_from(request.model_dump(mode="json")).source_audio == Path("a b.wav")
