"""A checkpoint and a validation set → its evaluation: samples are made where they are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError, PathError
from luthier.evaluation.embedding import DEFAULT_EMBEDDING
from luthier.files import read_json, temporary_folder, write_json
from luthier.music.dataset.styles import load_presets
from luthier.music.evaluation.checkpoint_player import is_checkpoint, open_player, place_of
from luthier.music.evaluation.clip_measures import audio_files, listen_to_real
from luthier.music.evaluation.evaluate import EvaluateOptions, evaluate_folder, open_ears
from luthier.music.evaluation.reference import real_tracks
from luthier.music.evaluation.result import Evaluation
from luthier.music.evaluation.samples import (
    SamplePrompt,
    SampleReport,
    SampleSettings,
    check_samples,
    generate_samples,
    made_clips,
    read_prompts,
    style_prompts,
)
from luthier.progress import SILENT, Display

_CHECKPOINTS = "checkpoints"
_STATE, _EVALUATION = "state.json", "evaluation.json"


@dataclass(frozen=True)
class ValidateSettings:
    """How a checkpoint is validated.

    Attributes:
        base_model: `mini` or a folder; None takes what the checkpoint names.
        prompts_file: what to play; None plays one clip a style.
        embedding: the space FAD is measured in.
        generate: make missing samples even where some are there.
        samples: length, steps and seed.
        options: of the evaluation.
        name: to report; None takes the checkpoint's.
        requests: what was asked of a folder of audio; None reads the clips' own records.
        out: where the evaluation is written as JSON; None writes none.
    """

    base_model: str | None = None
    prompts_file: Path | None = None
    embedding: str = DEFAULT_EMBEDDING
    generate: bool = False
    samples: SampleSettings = field(default_factory=SampleSettings)
    options: EvaluateOptions = field(default_factory=EvaluateOptions)
    name: str | None = None
    requests: Sequence[Mapping[str, Any]] | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Validation:
    """An evaluation, where its clips lie, and how many of them are new."""

    evaluation: Evaluation
    clips: Path
    samples: SampleReport | None  # None: a folder of audio was given, or earlier clips were taken

    def to_json(self) -> dict[str, Any]:
        """The evaluation, and what was done for it."""
        made = self.samples.made if self.samples else 0
        kept = self.samples.kept if self.samples else len(self.evaluation.clips)
        return self.evaluation.to_json() | {"samples": {"made": made, "kept": kept}}


def sample_folder(checkpoint: Path) -> Path:
    """Where the samples of a checkpoint go when nobody says: `evaluation/<name>` beside the
    `checkpoints` folder, else beside the checkpoint.
    """
    parent = checkpoint.absolute().parent
    home = parent.parent if parent.name == _CHECKPOINTS else parent
    return home / "evaluation" / checkpoint.name


@contextmanager
def clips_folder(
    checkpoint: Path, wanted: Path | None, *, generate: bool, own_prompts: bool = False
) -> Iterator[Path]:
    """The folder of a checkpoint's clips: kept where samples are wanted or already lie, else
    temporary. A folder of audio is its own.

    Args:
        checkpoint: or a folder of audio.
        wanted: where the samples go; None is beside the checkpoint.
        generate: samples are wanted.
        own_prompts: certain prompts are to be played, so earlier clips say nothing.
    """
    if checkpoint.is_dir() and not is_checkpoint(checkpoint):
        yield checkpoint
        return
    folder = wanted or sample_folder(checkpoint)
    if generate or (not own_prompts and any(made_clips(folder))):
        yield folder
        return
    with temporary_folder() as temporary:
        yield temporary


def prompts_of(settings: ValidateSettings) -> tuple[SamplePrompt, ...]:
    """What is played: the prompts file's, else one clip a style."""
    if settings.prompts_file is not None:
        return read_prompts(settings.prompts_file, settings.samples)
    return style_prompts(load_presets(settings.options.presets), settings.samples)


def validation_loss(checkpoint: Path) -> float | None:
    """What training measured on the validation tracks; None where nobody did."""
    try:
        loss = read_json(checkpoint / _STATE)["validation_loss"]
        return None if loss is None else float(loss)
    except (LuthierError, KeyError, TypeError, ValueError):
        return None


def validate(
    checkpoint: Path,
    validation_set: Path,
    clips: Path,
    settings: ValidateSettings,
    display: Display = SILENT,
) -> Validation:
    """Play a checkpoint into `clips` and measure that against the validation set.

    Args:
        checkpoint: a checkpoint, an adapter, a model (`mini` is the built-in one), ONNX graphs, or
            a folder of audio.
        validation_set: a folder of real recordings, or a data set.
        clips: from `clips_folder`.

    Raises:
        PathError: something is missing, or the validation set is empty; nothing was played then.
        ModelError, AdapterError: see `open_player`.
        AudioError: a recording cannot be decoded.
    """
    # A link to a file keeps its own name: in a hub's cache it leads to one that is a digest.
    own = checkpoint.name if checkpoint.is_file() else checkpoint.resolve().name
    name, checkpoint = settings.name or own, place_of(checkpoint)
    if not checkpoint.exists():
        raise PathError(f"the checkpoint {checkpoint} does not exist.")
    options, samples = settings.options, None
    opened = options.opened or open_ears(settings.embedding, options)
    options = replace(options, opened=opened)
    tracks = real_tracks(validation_set)
    if not is_checkpoint(checkpoint):
        if not any(p.is_file() for p in checkpoint.rglob("*")):
            raise PathError(f"{checkpoint} is empty: it is neither a checkpoint nor has it audio.")
        audio_files(checkpoint, "folder, which is no checkpoint,")
    elif settings.generate or not any(made_clips(clips)):
        prompts = prompts_of(settings)
        check_samples(clips, prompts)
        for track in tracks:
            # The cache keeps it; one that cannot be decoded must not be found after an hour.
            listen_to_real(track.path, opened.ears)
        player = open_player(checkpoint, settings.base_model)
        samples = generate_samples(player, prompts, clips, display)
        # Clips of earlier prompts may lie beside them: those are not what was asked for.
        options = replace(options, files=samples.files)
    evaluation = evaluate_folder(
        clips,
        validation_set,
        requests=settings.requests,
        embedding=settings.embedding,
        checkpoint=name,
        out=settings.out,
        display=display,
        options=options,
    )
    if settings.generate and (checkpoint / _STATE).is_file():
        # Where training looks for it when checkpoints are kept by their distance.
        write_json(checkpoint / _EVALUATION, evaluation.to_json())
    return Validation(evaluation, clips, samples)
