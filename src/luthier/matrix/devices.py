"""What was measured on a device → its section in a page of devices, which it replaces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.errors import PathError
from luthier.files import write_text
from luthier.matrix.page import busy_text, device_name, values_text

_TITLE = "# Devices\n\nWhat to offer on which machine, measured by `luthier matrix`.\n"


def write_device_entry(path: Path, result: Mapping[str, Any]) -> None:
    """Put the section of this device into `path`: in place of its old one, else at the end.

    Args:
        path: a Markdown file; made when it is not there. What stands outside the section's marks
            stays.
        result: of `collect`.

    Raises:
        PathError: the file cannot be read, or the section's end was lost.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else _TITLE
    except (OSError, UnicodeDecodeError) as error:
        raise PathError(f"{path} cannot be read: {error}.") from error
    name = re.sub(r"[^a-z0-9]+", "-", _title(result).lower()).strip("-")
    begin, end = f"<!-- device: {name} -->", f"<!-- end of device: {name} -->"
    section = f"{begin}\n{entry(result)}{end}\n"
    head, found, rest = text.partition(begin)
    if not found:
        write_text(path, f"{text.rstrip()}\n\n{section}")
        return
    _, closed, tail = rest.partition(end + "\n")
    if not closed:
        raise PathError(f"{path} has {begin} but not {end}: put it back behind the section.")
    write_text(path, head + section + tail)


def entry(result: Mapping[str, Any]) -> str:
    """The section, in Markdown, without its marks."""
    parts = [f"## {_title(result)}\n\n{_facts(result)}"]
    for name, model in result["recommended"].items():
        parts.append(f"### {name}\n\nRecommended: {values_text(model)}\n\n{_tasks(model)}")
    return "\n".join(parts)


def _title(result: Mapping[str, Any]) -> str:
    environment = result["environment"]
    cores = environment["machine"].get("cores")
    return device_name(environment) + (f", {cores} cores" if cores else "")


def _facts(result: Mapping[str, Any]) -> str:
    environment, versions = result["environment"], result["versions"]
    machine = environment["machine"]
    loads = [row["load_1min"] for row in result["cells"] if row["load_1min"] is not None]
    pairs = {
        "processor": machine.get("cpu"),
        "memory": f"{machine['memory_gb']:g} GB" if machine.get("memory_gb") else None,
        "GPU": " ".join(filter(None, (machine.get("gpu"), machine.get("gpu_memory")))),
        "system": machine.get("system"),
        "runs on": environment["provider"],
        "server": _server(environment["server"]),
        "onnxruntime": versions.get("onnxruntime") if environment["server"] is None else None,
        "load meanwhile": f"{min(loads):g} to {max(loads):g}" if loads else None,
        "measured": f"{result['created'][:10]}, {result['counts']['recorded']} cells, "
        f"`{result['command']}`",
    }
    rows = "".join(f"| {name} | {value} |\n" for name, value in pairs.items() if value)
    busy = busy_text(result)
    return f"| | |\n| --- | --- |\n{rows}" + (f"\n{busy}\n" if busy else "")


def _server(server: Mapping[str, Any] | None) -> str | None:
    if server is None:
        return None
    return str(server["server"] or server["service"] or "ACE-Step's REST API")


def _tasks(model: Mapping[str, Any]) -> str:
    head = (
        "| task | verdict | sound a second: median, slowest | tempo met | key met | on the grid | "
        "because |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    )
    return head + "".join(_task(name, task) for name, task in model["tasks"].items())


def _task(name: str, task: Mapping[str, Any]) -> str:
    speed = "–" if task["speed"] is None else f"{task['speed']:.2f}, {task['slowest']:.2f}"
    on_grid = task["on_grid"] if task["layer_on_grid"] is None else task["layer_on_grid"]
    shares = (task["tempo_met"], task["key_met"], on_grid)
    cells = ["–" if share is None else f"{share:.0%}" for share in shares]
    return f"| {' | '.join([name, task['verdict'], speed, *cells, task['why']])} |\n"
