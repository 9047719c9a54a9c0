"""`luthier train`: fine-tune a model on a data set, resumable."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from luthier.cli import common
from luthier.cli.hub_flags import MODEL_HELP, add_hub_arguments, hub_of
from luthier.models import BUILT_IN, torch_model

HELP = "fine-tune a model on a data set: LoRA, LoKr or all weights; resumable"
_LOGS_VARIABLE = "LOFI_CHECKPOINT_DIR"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to train on, where to, and a flag for each training setting."""
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="the data set")
    parser.add_argument("--exp-name", required=True, metavar="NAME", help="name of the run")
    parser.add_argument(
        "--model",
        default=BUILT_IN,
        metavar="MODEL",
        help=f"{MODEL_HELP} (default: {BUILT_IN})",
    )
    parser.add_argument(
        "--logs-dir",
        type=Path,
        default=_logs_dir(),
        metavar="DIR",
        help=f"where runs go (default: ${_LOGS_VARIABLE}, else exps/logs)",
    )
    parser.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="for latents (default: LOGS_DIR/.features)"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as JSON")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest whole checkpoint"
    )
    parser.add_argument(
        "--resume-from", type=int, metavar="STEP", help="go on from the checkpoint of this step"
    )
    add_hub_arguments(parser)
    _add_settings(parser.add_argument_group("training settings"))


def _add_settings(group: Any) -> None:
    from luthier.training.config import TrainConfig

    for name, field in TrainConfig.model_fields.items():
        kind, default = field.annotation, field.default
        shown = ",".join(default) if isinstance(default, tuple) else default
        unsaid = default is None or default == ()
        said = field.description if unsaid else f"{field.description} (default: {shown})"
        options: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,  # what is not given is the checkpoint's or the default
            "help": str(said).replace("%", "%%"),
        }
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif get_origin(kind) is Literal:
            options["choices"] = get_args(kind)
        elif isinstance(default, tuple):
            options |= {"type": _words, "metavar": "A,B"}
        elif kind is str:
            options["metavar"] = "NAME"
        else:
            options |= {"type": int if kind is int else float, "metavar": "N"}
        group.add_argument("--" + name.replace("_", "-"), **options)


def _logs_dir() -> Path:
    return Path(os.environ.get(_LOGS_VARIABLE, "exps/logs"))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def run(args: argparse.Namespace) -> int:
    """Train; 0 when done, 1 when nothing was, 128 + signal when it was stopped and saved."""
    from luthier.errors import MissingExtraError

    output = run_folder(args)
    try:
        from luthier.training.run import saved_config, train
    except ModuleNotFoundError as error:
        raise MissingExtraError("luthier train", "train") from error
    from luthier.training.config import TrainConfig, config_from, read_config

    display = common.display(args)
    resume = args.resume if args.resume_from is None else args.resume_from
    values = dict(saved_config(output, display, resume))
    values |= read_config(args.config) if args.config else {}
    values |= {
        name: value for name, value in vars(args).items() if name in TrainConfig.model_fields
    }
    config = config_from(values)
    model = torch_model(args.model, hub_of(args))
    if args.dry_run:
        from luthier.music.training.preflight import preflight

        plan = preflight(model, args.dataset, output, config, resume=resume, display=display)
        common.emit(args, plan.as_dict(), plan.to_text())
        return 0
    result = train(
        model,
        args.dataset,
        output,
        config,
        display=display,
        resume=resume,
        cache_dir=args.cache_dir,
    )
    common.emit(args, result.as_dict(), _text(result, args))
    if result.stopped_by and (args.quiet or args.json):
        sys.stderr.write(f"luthier: stopped at step {result.step}: {after_stop(args)}\n")
    return exit_code(result)


def run_folder(args: argparse.Namespace) -> Path:
    """Where a run goes; `RequestError` or `OutputError` where it may not go there."""
    from luthier.errors import RequestError
    from luthier.training.run_folder import check_run_folder

    name = args.exp_name
    if not name or Path(name).name != name or name.startswith("."):
        raise RequestError(
            f"--exp-name is a name, not a path, and begins with no full stop: {name!r}."
        )
    output: Path = args.logs_dir / name
    # Before anything is downloaded; a model that is no folder here lies in no folder of the user's.
    check_run_folder(output, [args.dataset, Path(args.model).expanduser()])
    return output


def after_stop(args: argparse.Namespace) -> str:
    """How to go on: from the newest checkpoint, with the flags as they were given."""
    from luthier.training.checkpoint import find_checkpoints
    from luthier.training.run_folder import CHECKPOINTS

    if not find_checkpoints(args.logs_dir / args.exp_name / CHECKPOINTS):
        return f"no step was saved yet; start anew with  {common.command_of(args)}"
    return f"what was learnt is saved; go on with  {_resuming(args)}"


def _resuming(args: argparse.Namespace) -> str:
    """The command as it was typed, from the newest checkpoint on, in as many processes."""
    words = common.words_of(args)
    kept: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--resume" or word.startswith("--resume-"):
            if word.startswith("--resume-") and "=" not in word:
                words = words[1:]  # the step
            continue
        kept.append(word)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        kept = ["accelerate", "launch", "--num_processes", str(count), "-m", *kept]
    return shlex.join([*kept, "--resume"])


def exit_code(result: Any) -> int:
    """128 + signal of a stopped run, 1 when no step was left to do, else 0."""
    if result.stopped_by:
        return int(128 + result.stopped_by)
    return 1 if result.loss is None else 0


def _text(result: Any, args: argparse.Namespace) -> str:
    loss = "" if result.loss is None else f", loss {result.loss:.4f}"
    validation = (
        "" if result.validation_loss is None else f", validation {result.validation_loss:.4f}"
    )
    lines = [f"{result.checkpoint}", f"  step {result.step}{loss}{validation}"]
    if result.loss is None and not result.stopped_by:
        return f"nothing was trained: {result.checkpoint} is the last step already; --max-steps N"
    if result.best is not None and result.best != result.checkpoint:
        lines.append(f"  best so far: {result.best}")
    lines.append(f"  report: {result.folder / 'report.html'}")
    if result.stopped_by:
        lines.append(f"  stopped and saved; go on with  {_resuming(args)}")
    else:
        merge = ["luthier", "merge", "--base-model", args.model, "--lora-checkpoint"]
        merge += [str(result.checkpoint), "--output-dir", "MODEL"]
        lines.append(f"  next:  {shlex.join(merge)}")
    return "\n".join(lines)
