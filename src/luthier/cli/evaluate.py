"""`luthier evaluate`: a checkpoint, or a folder of generated clips, against real tracks."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.cli import common
from luthier.cli.hub_flags import MODEL_HELP, add_hub_arguments, hub_of
from luthier.models import model_folder

if TYPE_CHECKING:
    from luthier.music.evaluation.result import Evaluation
    from luthier.music.evaluation.validate import ValidateSettings, Validation

HELP = "measure a checkpoint or generated clips against real tracks: FAD, CLAP, tempo, key, gates"
GATE_EXIT = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `luthier evaluate`."""
    parser.add_argument(
        "generated",
        metavar="PATH",
        help="folder of generated clips, a checkpoint, or a model: of the hub, or a folder",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        metavar="DIR",
        help="held-out real tracks: a folder, or a data set with a validation part",
    )
    parser.add_argument(
        "--requests",
        type=Path,
        metavar="FILE",
        help="JSON list of what was asked of the clips: file, prompt, bpm, key, style_id "
        "(default: the records beside the clips)",
    )
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="name to report (default: the folder's)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the evaluation as JSON")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="an earlier evaluation: gates against it"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="how much worse than the baseline is allowed (default: 0.05)",
    )
    parser.add_argument(
        "--require-gates",
        action="store_true",
        help=f"exit {GATE_EXIT} when a gate that could be measured is not passed",
    )
    add_sample_arguments(parser)
    add_measure_arguments(parser)


def add_sample_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides which clips of a checkpoint are made."""
    group = parser.add_argument_group("samples of a checkpoint")
    group.add_argument(
        "--generate-samples",
        action="store_true",
        help="make the clips that are missing, one a style, and keep them",
    )
    group.add_argument(
        "--sample-output-dir",
        type=Path,
        metavar="DIR",
        help="where they are kept (default: evaluation/ beside the checkpoints)",
    )
    group.add_argument(
        "--prompts-file",
        type=Path,
        metavar="FILE",
        help="play these instead: a prompt a line, or JSON with bpm, key, style_id",
    )
    group.add_argument(
        "--base-model",
        metavar="MODEL",
        help=f"{MODEL_HELP} (default: the one the checkpoint was trained on)",
    )
    group.add_argument(
        "--sample-duration", type=float, metavar="SECONDS", help="of a clip (default: 10)"
    )
    group.add_argument(
        "--sample-steps", type=int, metavar="N", help="of the denoiser (default: the model's)"
    )
    group.add_argument("--sample-seed", type=int, metavar="N", help="of the noise (default: 42)")
    add_hub_arguments(parser)


def add_measure_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides how clips are measured, and where that is shown."""
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "--embedding",
        metavar="NAME",
        help="what FAD is measured in: mel-stats-v1 (default; timbre), notes-v1 (harmony and "
        "rhythm), clap or clap:FOLDER",
    )
    group.add_argument(
        "--clap", metavar="MODEL", help="CLAP model for the score: folder or hub name"
    )
    group.add_argument("--presets", type=Path, metavar="FILE", help="style presets (default: ours)")
    group.add_argument("--html", type=Path, metavar="FILE", help="write a page with players")
    group.add_argument(
        "--no-cache", action="store_true", help="keep nothing of what is measured on real tracks"
    )


def settings_of(args: argparse.Namespace) -> ValidateSettings:
    """The settings that the flags of both groups ask for."""
    from luthier.evaluation.embedding import DEFAULT_EMBEDDING
    from luthier.music.evaluation.evaluate import EvaluateOptions
    from luthier.music.evaluation.samples import SampleSettings
    from luthier.music.evaluation.validate import ValidateSettings

    given = {
        "duration_s": args.sample_duration,
        "steps": args.sample_steps,
        "seed": args.sample_seed,
    }
    options = EvaluateOptions(clap=args.clap, presets=args.presets)
    return ValidateSettings(
        base_model=args.base_model and str(model_folder(args.base_model, hub_of(args))),
        prompts_file=args.prompts_file,
        embedding=args.embedding or DEFAULT_EMBEDDING,
        generate=args.generate_samples,
        samples=SampleSettings(**{k: v for k, v in given.items() if v is not None}),
        options=replace(options, cache_dir=None) if args.no_cache else options,
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; 0 when it was done, 2 with --require-gates and one not passed."""
    from luthier.music.evaluation.validate import clips_folder, validate

    args.generated = place_of_argument(args, args.generated)
    settings = settings_of(args)
    requests = _requests(args.requests)
    read = [args.requests, args.baseline, args.prompts_file, args.presets]
    check_results(args.out, args.html, [args.generated, args.reference, *filter(None, read)])
    if args.dry_run:
        show_plan(args, [args.generated], args.reference, settings)
        return 0
    check_places(args.out, args.html)
    folder = clips_folder(
        args.generated,
        args.sample_output_dir,
        generate=args.generate_samples,
        own_prompts=args.prompts_file is not None,
    )
    with folder as clips:
        found = validate(
            args.generated,
            args.reference,
            clips,
            replace(settings, name=args.checkpoint, requests=requests, out=args.out),
            common.display(args),
        )
        extra = _baseline(args, found.evaluation)
        if args.html:
            write_page(args.html, [found], args.reference)
    return print_validation(args, found, extra)


def place_of_argument(args: argparse.Namespace, text: str) -> Path:
    """Where what is to be evaluated lies: what is there, else the model that is called so."""
    path = Path(text)
    return path if path.exists() else model_folder(text, hub_of(args))


def check_places(*paths: Path | None) -> None:
    """Find out before long work whether results can be written; makes the folders for them."""
    from luthier.files import check_place

    for path in paths:
        if path:
            check_place(path)


def check_results(out: Path | None, html: Path | None, inputs: list[Path]) -> None:
    """Refuse, before any work, to write results over what is read or is not luthier's.

    Raises:
        OutputError: such a file is there, or a name is too long.
    """
    from luthier.output_folder import check_output_file
    from luthier.provenance import check_artefact
    from luthier.report.document import check_page

    files = [path for path in inputs if not path.is_dir()]
    if out:
        check_artefact(out, files)
    if html:
        check_output_file(html, files)
        check_page(html)


def after_stop(args: argparse.Namespace) -> str:
    """How to go on: what was played and measured is not done again, where it is kept."""
    kept = ["clips that were played"] if args.generate_samples else []
    kept += [] if args.no_cache else ["measures of real tracks"]
    said = f"{' and '.join(kept)} are kept; " if kept else "nothing is kept; "
    return f"{said}do the rest with  {common.command_of(args)}"


def _requests(path: Path | None) -> list[dict[str, Any]] | None:
    from luthier.music.evaluation.requests import read_requests

    return read_requests(path) if path else None


def _baseline(args: argparse.Namespace, evaluation: Evaluation) -> list[Any]:
    if args.baseline is None:
        return []
    from luthier.files import read_json
    from luthier.music.evaluation.baseline import baseline_gates

    return list(baseline_gates(evaluation, read_json(args.baseline), args.tolerance))


def print_validation(
    args: argparse.Namespace, found: Validation, extra: list[Any] | None = None
) -> int:
    """Print an evaluation (with gates besides); the exit code."""
    from luthier.music.evaluation.result import gate_line

    gates = [*found.evaluation.gates, *(extra or [])]
    value = found.to_json() | {"gates": [gate.to_json() for gate in gates]}
    text = "\n".join([found.evaluation.to_text(), *(gate_line(gate) for gate in extra or [])])
    common.emit(args, value, text)
    failed = any(gate.passed is False for gate in gates)
    return GATE_EXIT if args.require_gates and failed else 0


def write_page(path: Path, validations: list[Validation], reference: Path, **verdict: Any) -> None:
    """Write the page of one validation or several."""
    from luthier.music.evaluation.page import Side, write_evaluation_page
    from luthier.music.evaluation.reference import real_tracks

    sides = [
        Side(found.evaluation.checkpoint, found.clips, found.evaluation.to_json())
        for found in validations
    ]
    real = [track.path for track in real_tracks(reference)]
    write_evaluation_page(path, sides, real, **verdict)


def show_plan(
    args: argparse.Namespace, paths: list[Path], reference: Path, settings: ValidateSettings
) -> None:
    """Say what would be played and measured."""
    from luthier.evaluation.embedding import get_embedding
    from luthier.music.evaluation.checkpoint_player import is_checkpoint, place_of
    from luthier.music.evaluation.clip_measures import audio_files
    from luthier.music.evaluation.reference import real_tracks
    from luthier.music.evaluation.validate import prompts_of

    tracks = [track.file for track in real_tracks(reference)]
    name = get_embedding(settings.embedding).name
    plans, lines = [], []
    for path in paths:
        played = is_checkpoint(place_of(path))
        clips = (
            [f"{prompt.name}.wav" for prompt in prompts_of(settings)]
            if played
            else audio_files(path, "folder of generated clips")
        )
        plans.append({"checkpoint": path.name, "generate": played, "clips": clips})
        verb = "play and measure" if played else "measure"
        lines.append(f"would {verb} {len(clips)} clips against {len(tracks)} tracks in {name}")
    common.emit(args, {"plan": plans, "reference": tracks, "embedding": name}, "\n".join(lines))
