"""Prompts → clips to measure: one a style with fixed seeds, and no clip made twice."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.audio.encode import write_audio
from luthier.audio.keynames import ALL_KEYS
from luthier.audio.reader import AudioReader
from luthier.errors import AudioError, LuthierError, RequestError
from luthier.files import check_name, make_folder, read_json, sha256_of, sibling
from luthier.music.dataset.captions import build_caption
from luthier.music.dataset.styles import StylePreset
from luthier.music.evaluation.checkpoint_player import Player
from luthier.music.playing.pipeline import Generated
from luthier.music.request import MAX_SEED, MusicRequest, request_from
from luthier.progress import SILENT, Display
from luthier.provenance import check_artefact, read_record, run_path, write_run


@dataclass(frozen=True)
class SampleSettings:
    """How samples are made, where a prompt does not say.

    Attributes:
        duration_s: seconds.
        steps: of the denoiser; None takes the model's.
        seed: with a prompt's name, gives the seed of its noise.
    """

    duration_s: float = 10.0
    steps: int | None = None
    seed: int = 42


@dataclass(frozen=True)
class SamplePrompt:
    """One clip to make: `<name>.wav`."""

    name: str
    style_id: str | None
    request: MusicRequest


@dataclass(frozen=True)
class SampleReport:
    """What `generate_samples` did: the clips' names, how many are new and how many were there."""

    files: tuple[str, ...]
    made: int
    kept: int


def style_prompts(
    presets: Mapping[str, StylePreset], settings: SampleSettings
) -> tuple[SamplePrompt, ...]:
    """One prompt a style: its caption, the middle of its tempo range, and a key that stays."""
    prompts = []
    for style_id, preset in presets.items():
        bpm = round(sum(preset.tempo_range) / 2)
        key = _key_of(style_id, "minor key" in preset.production)
        values = {"prompt": build_caption(preset, bpm, key, settings.seed), "bpm": bpm, "key": key}
        prompts.append(_prompt(style_id, style_id, values | {"instrumental": True}, settings))
    return tuple(prompts)


def read_prompts(path: Path, settings: SampleSettings) -> tuple[SamplePrompt, ...]:
    """Read prompts from a file: a line each, or JSON.

    JSON is a list, or an object with one under `prompts`, of texts or of objects with any field of
    a request and, if wanted, `style_id` and `name`.

    Raises:
        PathError: the file is missing or not JSON.
        RequestError: it holds no prompts, or one that is not allowed, which is named.
    """
    rows = _rows(path)
    prompts: list[SamplePrompt] = []
    for number, row in enumerate(rows, 1):
        values = {"prompt": row} if isinstance(row, str) else dict(row)
        style = values.pop("style_id", None)
        name = str(values.pop("name", None) or style or f"prompt-{number:03d}")
        try:
            prompts.append(_prompt(name, style, values, settings))
        except RequestError as error:
            raise RequestError(f"{path}, prompt {number}: {error}") from error
    names = [prompt.name for prompt in prompts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(f"{path} has two prompts called {twice[0]}: give each a name.")
    return tuple(prompts)


def _rows(path: Path) -> list[Any]:
    if path.suffix.lower() == ".json":
        document = read_json(path)
        rows = document.get("prompts") if isinstance(document, dict) else document
    else:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"the prompts file {path} cannot be read: {error}.") from error
        rows = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not isinstance(rows, list) or not rows:
        raise RequestError(
            f'{path} holds no prompts: write one a line, or {{"prompts": ["calm piano"]}}.'
        )
    wrong = [row for row in rows if not isinstance(row, str | dict)]
    if wrong:
        raise RequestError(f"{path}: a prompt is a text or an object, not {wrong[0]!r}.")
    return rows


def _prompt(
    name: str, style_id: str | None, values: Mapping[str, Any], settings: SampleSettings
) -> SamplePrompt:
    fixed: dict[str, Any] = {"seed": _number(f"{settings.seed}/{name}") % (MAX_SEED + 1)}
    fixed["duration_s"] = settings.duration_s
    if settings.steps is not None:
        fixed["steps"] = settings.steps
    given = request_from(values).model_dump(exclude_unset=True)
    request = request_from(fixed | {k: v for k, v in given.items() if v is not None})
    file = re.sub(r"[^\w.-]+", "-", name).strip("-.")
    if not file:
        raise RequestError(f"the name {name!r} has no letter or digit that a file name could have.")
    return SamplePrompt(file, style_id, request)


def _key_of(style_id: str, minor: bool) -> str:
    keys = [key for key in ALL_KEYS if not minor or key.mode == "minor"]
    return keys[_number(style_id) % len(keys)].name


def _number(text: str) -> int:
    # Python's own hash of a string differs between runs.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def generate_samples(
    player: Player,
    prompts: Sequence[SamplePrompt],
    folder: Path,
    display: Display = SILENT,
) -> SampleReport:
    """Make the clips that are not there yet; what was stopped goes on where it was.

    A clip counts as there when the same weights made it from the same request and its file is
    whole.

    Raises:
        OutputError: a clip's name is taken by another recording; nothing was played.
        LuthierError: the model cannot do what a prompt asks for; what was made before stays.
    """
    check_samples(folder, prompts)
    make_folder(folder)
    made = 0
    with display.task("samples", len(prompts)) as task:
        for prompt in prompts:
            path = folder / f"{prompt.name}.wav"
            config = _config(player, prompt)
            if not _is_there(path, config):
                result = player.pipeline.generate(prompt.request)
                _write(path, player, result, config)
                made += 1
            task.advance(note=prompt.name)
    files = tuple(f"{prompt.name}.wav" for prompt in prompts)
    return SampleReport(files, made, len(prompts) - made)


def check_samples(folder: Path, prompts: Sequence[SamplePrompt]) -> None:
    """Refuse, before anything is played, a folder in which a clip would replace a recording that
    luthier did not make.

    Raises:
        OutputError: such a recording is there, or a clip's name is too long.
    """
    check_name(folder)
    for prompt in prompts:
        path = folder / f"{prompt.name}.wav"
        # A clip that is torn has its record, and is made again.
        torn = path.is_file() and run_path(path).is_file() and _is_torn(path)
        if not torn:
            check_artefact(path)


def _is_torn(path: Path) -> bool:
    try:
        with AudioReader(path):
            return False
    except (AudioError, OSError):
        return not path.is_symlink()


def _write(path: Path, player: Player, made: Generated, config: Mapping[str, Any]) -> None:
    """Write a clip and its record so that, whenever it is stopped, no clip lacks its record."""
    path.unlink(missing_ok=True)  # `check_samples` knows it for ours
    temporary = sibling(path)
    try:
        write_audio(temporary, made.audio, made.sample_rate)
        write_run(
            path,
            stage="evaluate",
            inputs=player.inputs,
            config={**config, "sha256": sha256_of(temporary)},
            seeds={"noise": made.seed},
            content=temporary,
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def made_clips(folder: Path) -> Iterator[str]:
    """The clips in `folder` that `generate_samples` made, by name."""
    for path in sorted(folder.glob("*.wav")):
        if run_path(path).is_file():
            yield path.name


def _config(player: Player, prompt: SamplePrompt) -> dict[str, Any]:
    return {
        "request": prompt.request.model_dump(mode="json"),
        "style_id": prompt.style_id,
        "player": player.identity,
    }


def _is_there(path: Path, config: Mapping[str, Any]) -> bool:
    if not path.is_file() or not run_path(path).is_file():
        return False
    try:
        kept = read_record(run_path(path)).get("config", {})
    except LuthierError:  # a torn or foreign record: make the clip again
        return False
    same = all(kept.get(name) == value for name, value in config.items())
    return same and kept.get("sha256") == sha256_of(path)
