"""Tasks that make no music: a recording as audio codes, and what a planner says of a piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.families import Report
from luthier.music.playing.encoder import Encoder
from luthier.music.request import MusicRequest
from luthier.music.task_options import TaskOptions
from luthier.progress import Display

if TYPE_CHECKING:
    from luthier.music.planner.planner import Planner

# Upstream's words; its clients look for them.
CODES_DONE = "Audio Codes Extraction Success"
ANALYSIS_DONE = "Full Hardware Analysis Success"
_EXTRACTING = "Extracting Audio Codes..."
_ANALYSING = "Starting Deep Analysis..."


def heard(
    encoder: Encoder,
    planner: Planner | None,
    request: MusicRequest,
    options: TaskOptions,
    display: Display,
    report: Report,
) -> dict[str, Any]:
    """Codes, or a planner's facts of a recording or of words.

    Args:
        encoder: of the model whose codes are wanted.
        planner: for all but the codes.

    Returns:
        `heard`: what was found; `audio_codes` as text, facts by the planner's names.

    Raises:
        RequestError: the planner does not know the model's codes.
        AudioError, PathError: the recording is no audio, or not there.
    """
    codes: tuple[int, ...] = ()
    if options.hears != "words":
        assert request.source_audio is not None  # checked when the task was accepted
        report(0.01, _EXTRACTING if options.hears == "codes" else _ANALYSING)
        codes = encoder.codes(request.source_audio)
    text = "".join(f"<|audio_code_{code}|>" for code in codes)
    found: dict[str, Any] = {"status_message": CODES_DONE, "audio_codes": text}
    if planner is not None:
        found["status_message"] = ANALYSIS_DONE
        found["facts"] = _facts(planner, request, options, codes, display)
    return {"heard": found}


def _facts(
    planner: Planner,
    request: MusicRequest,
    options: TaskOptions,
    codes: tuple[int, ...],
    display: Display,
) -> dict[str, Any]:
    from luthier.music.planner.completion import plan_request_for
    from luthier.music.planner.request import plan_request_from

    if codes:
        wanted = plan_request_from(
            {"mode": "understand", "audio_codes": codes, "seed": request.seed}
        )
    else:
        wanted = plan_request_for(request, options.planner_rules | {"codes": False})
    (plan,) = planner.plan(wanted, display)
    return plan.facts.given() | {"lyrics": plan.lyrics}
