"""`luthier generate --server`: the same flags and files, played by a server."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from luthier.cli import common
from luthier.cli.server_flags import client_of
from luthier.errors import LuthierError, RequestError
from luthier.files import check_place

if TYPE_CHECKING:
    from luthier.client import Client, RemoteTask
    from luthier.music.request import MusicRequest
    from luthier.music.task_options import TaskOptions

# What the server was started with decides these.
_ITS_OWN = {
    "--threads": ("threads", None),
    "--provider": ("provider", "auto"),
    "--memory-limit": ("memory_limit", None),
    "--planner": ("planner", None),
}


def run_remote(args: argparse.Namespace, request: MusicRequest, server: str) -> int:
    """Let `server` make it, and write it here.

    Raises:
        RequestError: a flag asks for what the server decides, or a format that cannot be written.
        ServerError: the server refused, failed, or was not reached.
    """
    for flag, (name, usual) in _ITS_OWN.items():
        if getattr(args, name) != usual:
            raise RequestError(f"{flag} is the server's own business: leave it out with --server.")
    options = _options(args)
    if args.dry_run:
        value = {"server": server, "request": request.model_dump(mode="json")}
        text = f"would ask {server} for {request.batch_size} piece(s)"
        common.emit(args, value, text)
        return 0
    check_place(args.out)
    with client_of(args, server) as client:
        _check_model(args, client)
        task = _made(args, client, request, options)
        _keep(args, client, request, task)
    return 0


def _options(args: argparse.Namespace) -> TaskOptions:
    from luthier.cli.thinking import lm_rules
    from luthier.music.task_options import FORMATS, options_from

    suffix = args.out.suffix.lower()
    format_of = {ending: name for name, (ending, _) in reversed(FORMATS.items())}
    if suffix not in format_of:
        raise RequestError(
            f"--out {args.out} has the ending {suffix!r}: use {', '.join(format_of)}."
        )
    values: dict[str, Any] = {"audio_format": format_of[suffix]}
    if args.model is not None:
        values["model"] = args.model
    if args.thinking:
        rules = {f"lm_{field}": value for field, value in lm_rules(args).items()}
        values |= {"thinking": True, "use_cot_caption": args.cot_caption, **rules}
    return options_from(values)


def _check_model(args: argparse.Namespace, client: Client) -> None:
    """A server plays an unknown model's name with its default; here that would be a surprise."""
    if args.model is None:
        return
    known = [model.name for model in client.models()]
    if args.model not in known:
        raise RequestError(
            f"{client.server} has no model {args.model!r}: it has {', '.join(known)}. Choose one "
            "of these, or leave --model out for its default."
        )


def _made(
    args: argparse.Namespace, client: Client, request: MusicRequest, options: TaskOptions
) -> RemoteTask:
    """The succeeded task. Ctrl-C cancels it."""
    from luthier.client.client import succeeded

    display = common.display(args)
    accepted = client.submit(request, options)
    for note in accepted.notes:
        display.say(f"note: {note}")
    try:
        with display.task("generate", total=100) as bar:
            done = 0.0

            def show(task: RemoteTask) -> None:
                nonlocal done
                stage = task.stage
                if task.state == "queued" and task.queue_position:
                    stage = f"place {task.queue_position} in the queue"
                bar.advance(max(0.0, round(100 * task.progress, 1) - done), stage)
                done = max(done, round(100 * task.progress, 1))

            return succeeded(client.wait(accepted.id, show))
    except KeyboardInterrupt:
        with suppress(LuthierError):
            client.cancel(accepted.id)
        raise


def _keep(
    args: argparse.Namespace, client: Client, request: MusicRequest, task: RemoteTask
) -> None:
    """Download the pieces, each with a record, and tell of them as the local command does."""
    from luthier.music.playing.output_file import piece_path
    from luthier.provenance import write_run

    recordings = [p for p in (request.source_audio, request.reference_audio) if p and p.is_file()]
    rows, lines = [], []
    each_s = round((task.seconds or 0.0) / len(task.pieces), 3)
    for index, piece in enumerate(task.pieces):
        path = client.download(piece, piece_path(args.out, index, len(task.pieces)))
        config = {"model": piece.model, "server": client.server, "request": piece.request}
        write_run(
            path,
            stage="generate",
            inputs=recordings,
            config=config | {"task": task.id},
            seeds={"noise": piece.seed},
        )
        row = {"path": str(path), "seed": piece.seed, "duration_s": piece.duration_s}
        more = {"sample_rate": piece.sample_rate, "seconds": each_s, "request": piece.request}
        rows.append(row | more)
        made = f"{piece.duration_s:g} s, seed {piece.seed}, made in {each_s:g} s"
        lines.append(f"{path}: {made}")
    common.emit(args, {"results": rows}, "\n".join(lines))
