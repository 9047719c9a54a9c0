"""Chat messages → a task's body, and a finished task → a chat message."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from luthier.files import write_bytes
from luthier.music.task_options import MEDIA_TYPES
from luthier.server.http.body import Body
from luthier.server.http.errors import Refusal, TooLargeError
from luthier.server.http.multipart import Limits
from luthier.server.http.paths import AUDIO_SUFFIXES
from luthier.server.schemas.chat import ChatAsked

PREFIX = "acestep/"
_MARKERS = ("verse", "chorus", "bridge", "intro", "outro", "hook", "pre-chorus", "refrain", "inst")
_FEW_LINES, _SHORT_LINE = 4, 60


class Words(NamedTuple):
    """What a message says: a description, words to sing, and whether it was marked as such."""

    prompt: str
    lyrics: str
    tagged: bool


def words_of(text: str) -> Words:
    """Read `<prompt>` and `<lyrics>`; without them, what looks like lyrics is lyrics."""
    found: dict[str, str] = {}
    rest = text
    for tag in ("prompt", "lyrics"):
        # Two searches, as one for both would begin again at every opening tag.
        start = re.search(f"<{tag}>", rest, re.IGNORECASE)
        end = start and re.compile(f"</{tag}>", re.IGNORECASE).search(rest, start.end())
        if start and end:
            found[tag] = rest[start.end() : end.start()].strip()
            rest = rest[: start.start()] + rest[end.end() :]
    if found:
        prompt = " ".join(part for part in (found.get("prompt", ""), rest.strip()) if part)
        return Words(prompt, found.get("lyrics", ""), tagged=True)
    if _look_sung(text):
        return Words("", text.strip(), tagged=False)
    return Words(text.strip(), "", tagged=False)


def _look_sung(text: str) -> bool:
    if any(f"[{marker}" in text.lower() for marker in _MARKERS):
        return True
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return len(lines) >= _FEW_LINES and sum(map(len, lines)) / len(lines) < _SHORT_LINE


def task_of(
    asked: ChatAsked, new_folder: Callable[[], Path], limits: Limits, *, has_planner: bool
) -> Body:
    """The body of a task; recordings in the message are written to a new folder.

    Raises:
        Refusal: no message of a user, or a recording that is none.
    """
    text, recordings = _last_said(asked)
    values = _values(asked, text, has_planner=has_planner)
    fields = ("source_audio", "reference_audio")
    if (asked.task_type or "text2music") == "text2music":
        fields = ("reference_audio", "source_audio")
    body = Body(values)
    if len(recordings) > len(fields):
        raise TooLargeError(f"a message has at most {len(fields)} recordings.")
    for field, (data, suffix) in zip(fields, recordings, strict=False):
        if len(data) > limits.upload_bytes:
            raise TooLargeError(f"a recording has at most {limits.upload_bytes / 1e6:g} MB.")
        body.folder = body.folder or new_folder()
        body.files[field] = body.folder / f"{field}{suffix}"
        write_bytes(body.files[field], data)
        body.digests[field] = hashlib.sha256(data).hexdigest()
    return body


def _last_said(asked: ChatAsked) -> tuple[str, list[tuple[bytes, str]]]:
    said = next((m.content for m in reversed(asked.messages) if m.role == "user"), None)
    if said is None:
        raise Refusal("messages hold none of the role user: say what to play in one.")
    if isinstance(said, str):
        return said, []
    texts, recordings = [], []
    for part in said:
        if part.get("type") == "text":
            texts.append(str(part.get("text", "")))
        elif part.get("type") == "input_audio":
            recordings.append(_recording(part.get("input_audio")))
    return "\n".join(texts), recordings


def _recording(part: Any) -> tuple[bytes, str]:
    given = part if isinstance(part, dict) else {}
    suffix = "." + str(given.get("format") or "mp3").lower().removeprefix(".")
    if suffix not in AUDIO_SUFFIXES:
        raise Refusal(
            f"input_audio has the format {suffix[1:17]!r}: recordings are "
            f"{', '.join(name[1:] for name in AUDIO_SUFFIXES)}."
        )
    text = str(given.get("data") or "")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal("input_audio holds no base64: encode the file's bytes in data.") from error
    if not data:
        raise Refusal("input_audio is empty: give the file's bytes in base64 as data.")
    return data, suffix


def _values(asked: ChatAsked, text: str, *, has_planner: bool) -> dict[str, Any]:
    values = asked.model_dump(exclude_none=True, include=_SAME_NAME)
    values["model"] = asked.model.rpartition("/")[2]
    values["batch_size"] = asked.batch_size or (None if "," in str(asked.seed) else 1)
    values |= {"lm_temperature": asked.temperature, "lm_top_p": asked.top_p or None}
    values["lm_top_k"] = asked.top_k
    if asked.audio_config:
        values |= asked.audio_config.model_dump(exclude_none=True, exclude={"format"})
        values["audio_format"] = asked.audio_config.format
    words = words_of(text)
    if asked.lyrics:
        words = Words(words.prompt or text.strip(), asked.lyrics, tagged=True)
    if asked.sample_mode:
        values["sample_query"] = text.strip()
    elif words.prompt and not (words.tagged or words.lyrics) and _invents(asked, has_planner):
        values["sample_query"] = words.prompt
    else:
        values |= {"prompt": words.prompt, "lyrics": words.lyrics}
    return {name: value for name, value in values.items() if value is not None}


def _invents(asked: ChatAsked, has_planner: bool) -> bool:
    """Plain words are for the planner to invent from; without one they describe the piece."""
    return has_planner and (asked.task_type or "text2music") == "text2music"


_SAME_NAME = {
    *("seed", "thinking", "guidance_scale", "sample_mode", "use_format", "use_cot_caption"),
    *("use_cot_language", "task_type", "repainting_start", "repainting_end"),
    "audio_cover_strength",
}


def content_of(result: dict[str, Any]) -> str:
    """What a finished task is, in Markdown."""
    facts = result["facts"]
    told = {
        "Caption": result["prompt"],
        "BPM": facts["bpm"],
        "Duration": f"{facts['duration_s']:g}s" if facts["duration_s"] else None,
        "Key": facts["key"],
        "Time Signature": facts["time_signature"],
    }
    lines = [f"**{name}:** {value}" for name, value in told.items() if value]
    parts = ["## Metadata\n" + "\n".join(lines)] if lines else []
    if result["lyrics"].strip().lower() not in ("", "[inst]", "[instrumental]"):
        parts.append(f"## Lyrics\n{result['lyrics']}")
    return "\n\n".join(parts) or "Music generated successfully."


def data_url(path: Path) -> str:
    """A file within an address."""
    media = MEDIA_TYPES.get(path.suffix.lower(), "audio/mpeg")
    return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode()}"
