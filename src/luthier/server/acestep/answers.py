"""A task of the queue → what clients read: `/query_result`'s rows, and our own shape."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from luthier.server.http.auth import Links
from luthier.server.queue.eta import Outlook
from luthier.server.queue.task import State, Task

_STATUS: dict[State, int] = {
    "queued": 0,
    "running": 0,
    "succeeded": 1,
    "failed": 2,
    "cancelled": 2,
}
_UNKNOWN = "N/A"


class Answers:
    """Writes answers; `signed` where the links in them must play without a key."""

    def __init__(self, links: Links, outlook: Outlook, *, signed: bool) -> None:
        self._links, self._outlook, self._signed = links, outlook, signed

    def row(self, identity: str, task: Task | None) -> dict[str, Any]:
        """One row of `/query_result`; its `result` is JSON in text, as clients expect."""
        if task is None:
            return {"task_id": identity, "result": "[]", "status": 0}
        return {
            "task_id": task.id,
            "result": json.dumps(self.items(task), ensure_ascii=False),
            "status": _STATUS[task.state],
            "progress_text": task.stage,
        }

    def items(self, task: Task) -> list[dict[str, Any]]:
        """An item for each piece of a succeeded task, or for what it heard; one for a task that
        has not succeeded; none for one that did something else.
        """
        if task.state == "succeeded":
            result = task.result or {}
            if "heard" in result:
                return [_found(task, result["heard"])]
            return [self._piece(task, index) for index in range(len(result.get("pieces", ())))]
        item = _base(task) | {"progress": task.progress if task.state == "running" else 0.0}
        item |= {"prompt": "", "lyrics": "", "metas": {}, "error": _error(task)}
        return [item | {"eta_seconds": self._outlook.left_s(task)}]

    def task(self, task: Task, position: int = 0) -> dict[str, Any]:
        """A task in our own shape."""
        return {
            "task_id": task.id,
            "state": task.state,
            "stage": task.stage,
            "progress": task.progress,
            "queue_position": position,
            "eta_seconds": self._outlook.left_s(task),
            "attempts": task.attempts,
            "cancel_asked": task.cancel_asked,
            "created": task.created,
            "started": task.started,
            "ended": task.ended,
            "error": task.error,
            "results": self.items(task) if task.state == "succeeded" else [],
        }

    def _piece(self, task: Task, index: int) -> dict[str, Any]:
        result, music = task.result or {}, task.request.get("music", {})
        piece, facts = result["pieces"][index], result["facts"]
        path = f"{task.id}/{result['folder']}/{piece['path']}"
        return _base(task) | {
            "file": self._links.link(path, signed=self._signed),
            "prompt": result["prompt"],
            "lyrics": result["lyrics"],
            "metas": {
                "bpm": facts["bpm"] or _UNKNOWN,
                "duration": facts["duration_s"] or _UNKNOWN,
                "genres": _UNKNOWN,
                "keyscale": facts["key"] or _UNKNOWN,
                "timesignature": facts["time_signature"] or _UNKNOWN,
                "prompt": music.get("prompt", ""),
                "lyrics": music.get("lyrics", ""),
            },
            "generation_info": _information(result),
            "seed_value": ",".join(str(p["seed"]) for p in result["pieces"]),
            "lm_model": result["planner"] or "",
            "dit_model": result["model"],
            "progress": 1.0,
            "error": None,
            "seed": piece["seed"],
            "duration_s": piece["duration_s"],
            "sample_rate": piece["sample_rate"],
            "request": _without_places(piece["request"]),
        }


def _found(task: Task, heard: dict[str, Any]) -> dict[str, Any]:
    facts, music = heard.get("facts", {}), task.request.get("music", {})
    names = ("bpm", "duration", "genres", "keyscale", "timesignature")
    metas = {name: facts.get(name) or _UNKNOWN for name in names}
    words = {"prompt": music.get("prompt", ""), "lyrics": music.get("lyrics", "")}
    return _base(task) | {
        "progress": 1.0,
        "status_message": heard["status_message"],
        "bpm": facts.get("bpm"),
        "keyscale": facts.get("keyscale", ""),
        "timesignature": facts.get("timesignature", ""),
        "duration": facts.get("duration"),
        "genre": facts.get("genres", ""),
        "prompt": facts.get("caption", words["prompt"]),
        "lyrics": facts.get("lyrics", words["lyrics"]),
        "language": facts.get("language", "unknown"),
        "metas": metas | words,
        "audio_codes": heard["audio_codes"],
        "audio_paths": [],
        "error": None,
    }


def _base(task: Task) -> dict[str, Any]:
    return {
        "file": "",
        "wave": "",
        "status": _STATUS[task.state],
        "create_time": int(task.created),
        "env": "development",
        "stage": task.stage,
    }


def _error(task: Task) -> str | None:
    return "the task was cancelled." if task.state == "cancelled" else task.error


def _without_places(request: dict[str, Any]) -> dict[str, Any]:
    """The settled request; where recordings lie on the server is nobody's business."""
    shown = {k: v for k, v in request.items() if k not in ("source_audio", "reference_audio")}
    if lora := shown.get("lora"):
        names = [{"name": PurePath(one["path"]).name} | one for one in lora]
        shown["lora"] = [{k: v for k, v in one.items() if k != "path"} for one in names]
    return shown


def _information(result: dict[str, Any]) -> str:
    """Markdown: how long each part took."""
    total = f"**Total: {result['seconds']:g} s**, {len(result['pieces'])} piece(s)"
    first = result["pieces"][0]["timings_s"]
    return "\n".join([total, *(f"- {stage}: {seconds:g} s" for stage, seconds in first.items())])
