"""What a merged model says of itself: README.md with the head that hubs read, and run.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError
from luthier.files import read_json, write_text
from luthier.music.adapters.place import record_of
from luthier.music.torch.model_folder import ModelFolder
from luthier.music.training.merge_check import Check
from luthier.provenance import input_record, recorded_licences, write_run
from luthier.training.merge_adapters import Adapter

_CARD = "README.md"
_HEAD_LINE = re.compile(r"^license:\s*['\"]?([\w.+-]+)['\"]?\s*$", re.MULTILINE)
_CREDITS = re.compile(r"^##+ (?:Attribution|Credits)\s*$(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)


def write_card(
    folder: Path,
    base: ModelFolder,
    adapters: Sequence[Adapter],
    name: str,
    check: Check | None,
) -> None:
    """Write README.md: what was merged, under which licences, who is to be credited, how to play.

    Args:
        folder: of the merged model.
        base: what the adapters were merged into.
        adapters: in their order.
        name: of the result.
        check: of `--verify`; None where it was not asked for.
    """
    licences = sorted(
        {licence for a in adapters for licence in recorded_licences(record_of(a.folder))}
    )
    lines = [
        *_head(base, licences, name),
        "",
        f"# {name}",
        "",
        f"The music model `{base_name(base)}` with these adapters merged into its denoiser:",
        "",
        "| adapter | method | rank | weight | tensors |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {a.folder.name} | {a.method} | {a.rank or ''} | {a.weight:g} | {len(a.changes)} |"
            for a in adapters
        ),
        "",
        "## Data",
        "",
        "Licences of the music that the adapters were trained on: "
        + (", ".join(licences) or "not recorded")
        + ". Everything that the model was made from is in `run.json`, by sha256; `luthier trace` "
        "walks it back.",
        *_credits(adapters),
        "",
        "## Check",
        "",
        check.sentence[0].upper() + check.sentence[1:] if check else "It was not verified.",
        "",
        "## Play it",
        "",
        *_usage(base, name),
    ]
    write_text(folder / _CARD, "\n".join(lines) + "\n")


def write_record(
    folder: Path,
    base: ModelFolder,
    adapters: Sequence[Adapter],
    plan: Mapping[str, Any],
    check: Check | None,
) -> None:
    """Write run.json of the merged model, which still has a temporary name."""
    own = base.layout == "luthier"
    write_run(
        folder,
        stage="merge",
        inputs=[
            input_record(base.folder, None if own else base.identity),
            *(input_record(adapter.folder) for adapter in adapters),
        ],
        config=dict(plan) | {"verify": check and asdict(check)},
        licences=[
            licence
            for source in (base.folder, *(a.folder for a in adapters))
            for licence in recorded_licences(record_of(source))
        ],
        name=Path(plan["output_dir"]).name,
    )


def base_name(base: ModelFolder) -> str:
    """What a base model calls itself, else its folder's name."""
    return base.spec.name if base.layout == "luthier" else base.folder.resolve().name


def _head(base: ModelFolder, licences: Sequence[str], name: str) -> Iterator[str]:
    licence = _licence_of(base.folder)
    yield "---"
    yield f"license: {licence or 'other'}"
    if not licence:
        yield "license_name: as-the-base-model"
    yield f"base_model: {json.dumps(base_name(base))}"
    yield "base_model_relation: merge"
    yield "library_name: diffusers"
    yield "pipeline_tag: text-to-audio"
    yield "tags: [music, ace-step, lora, merge]"
    yield f"model_name: {json.dumps(name, ensure_ascii=False)}"
    if licences:
        yield f"data_licences: {json.dumps(licences, ensure_ascii=False)}"
    yield "---"


def _licence_of(folder: Path) -> str:
    try:
        head = (folder / _CARD).read_text(encoding="utf-8").split("---")[1]
    except (OSError, UnicodeDecodeError, IndexError):
        return ""
    found = _HEAD_LINE.search(head)
    return found[1] if found else ""


def _credits(adapters: Sequence[Adapter]) -> Iterator[str]:
    """The attributions in the cards of the data sets that the adapters were trained on."""
    lines: list[str] = []
    for adapter in adapters:
        for folder in _data_sets(adapter.folder):
            try:
                card = (folder / _CARD).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            for found in _CREDITS.findall(card):
                lines += [line for line in found.splitlines() if line.startswith("- ")]
    if lines:
        yield from ("", "## Attribution", "", *dict.fromkeys(lines))


def _data_sets(adapter: Path) -> Iterator[Path]:
    try:
        inputs = read_json(record_of(adapter))["inputs"]
        folders = [Path(row["path"]) for row in inputs]
    except (LuthierError, KeyError, TypeError):
        return
    yield from (folder for folder in folders if folder.is_dir())


def _usage(base: ModelFolder, name: str) -> Iterator[str]:
    if base.layout != "luthier":
        yield from (
            "```python",
            "from diffusers import AceStepPipeline",
            "",
            f"pipeline = AceStepPipeline.from_pretrained({json.dumps(name, ensure_ascii=False)})",
            'audio = pipeline(prompt="calm piano", audio_duration=30.0).audios',
            "```",
            "",
        )
    yield from (
        "```",
        f"luthier export {name} --out {name}-onnx",
        f'luthier generate "calm piano" --model {name}-onnx --out song.wav',
        "```",
    )
