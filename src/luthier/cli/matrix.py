"""`luthier matrix`: tempo × key × task × length on this machine or a server, measured."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.cli import common
from luthier.cli.hub_flags import MODEL_HELP, add_hub_arguments, hub_of
from luthier.cli.server_flags import add_server_arguments, server_of
from luthier.errors import RequestError
from luthier.files import check_place, existing_folder
from luthier.models import BUILT_IN, playable_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from luthier.matrix.grid import Cell, Grid
    from luthier.matrix.renderer import Player

HELP = "bpm × key × task × length: what works here, how fast, in how much memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each axis, then what is the same in all cells, where it plays and writes.

    The default is the grid of ACE-Step's bring-up on a new machine.
    """
    add = parser.add_argument_group("axes, each by commas").add_argument
    add("--bpm", default="90,120,140", metavar="N,N", help="tempi (default 90,120,140)")
    add("--key", default="C Major,A minor", metavar="KEY,KEY", help='default "C Major,A minor"')
    add(
        "--task",
        default="text2music,repaint,lego:bass,lego:guitar,lego:vocals",
        metavar="TASK,TASK",
        help="text2music, cover, repaint, or lego, extract, complete with a track: lego:bass, "
        "complete:bass|drums (default text2music,repaint,lego:bass,lego:guitar,lego:vocals)",
    )
    add("--duration", default="10,20", metavar="S,S", help="lengths, seconds (default 10,20)")
    add("--seed", default="1", metavar="N,N", help="seeds of the noise (default 1)")
    add("--steps", default="", metavar="N,N", help="denoising steps (default the model's own)")
    add("--batch", default="1", metavar="N,N", help="pieces made together (default 1)")
    add = parser.add_argument_group("the same in all cells").add_argument
    add("--prompt", default=_PROMPT, metavar="TEXT", help=f'default "{_PROMPT}"')
    add("--lyrics", default=_LYRICS, metavar="TEXT", help="what vocal layers sing")
    add(
        "--region",
        type=float,
        default=8.0,
        metavar="S",
        help="length of the window that a repaint makes anew, in the middle (default 8 seconds)",
    )
    _add_places(parser)


_PROMPT = "tight electro groove, punchy kick, clean bass"
_LYRICS = "[Verse]\nLanterns over the water\nNobody calls my name"


def _add_places(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("where it plays").add_argument
    add(
        "--model",
        action="append",
        metavar="[NAME=]MODEL",
        help=f"{MODEL_HELP}; of a server, a name; may be repeated (default {BUILT_IN}, or the "
        "server's default)",
    )
    add("--device", metavar="NAME", help="what the machine is called; a server does not say")
    add("--threads", type=int, metavar="N", help="threads (default: all cores)")
    add("--provider", default="auto", metavar="NAME", help="cpu, cuda, coreml, directml or auto")
    add("--memory-limit", metavar="SIZE", help="of open graphs, e.g. 4G")
    add("--timeout", type=float, default=3600.0, metavar="S", help="of a cell (default 3600)")
    add_hub_arguments(parser, plays=True)
    add_server_arguments(parser)
    add = parser.add_argument_group("what it does and writes").add_argument
    add("--out", type=Path, default=Path("work/matrix"), metavar="DIR", help="default work/matrix")
    add("--limit", type=int, metavar="N", help="play at most so many cells now")
    add("--workers", type=int, default=1, metavar="N", help="cells played at once (default 1: only "
        "then are their runtimes those of a quiet machine)")  # fmt: skip
    add("--again", action="store_true", help="play what failed once more")
    add(
        "--device-entry",
        type=Path,
        metavar="FILE",
        help="put this device's recommended values into a Markdown file, such as docs/devices.md",
    )


def run(args: argparse.Namespace) -> int:
    """Play what is missing, then write everything; see `luthier matrix --help`."""
    _check_numbers(args)
    with _player(args) as (player, folders):
        grid = _grid(args, tuple(player.tasks))
        if args.dry_run:
            return _foretell(args, grid.cells())
        rows = _explored(args, grid, player)
        _finish(args, grid, rows, player.environment, folders)
    return 1 if any(row["state"] == "failed" for row in rows) else 0


def _explored(args: argparse.Namespace, grid: Grid, player: Player) -> list[dict[str, Any]]:
    from luthier.matrix.folder import MatrixFolder
    from luthier.matrix.run import Explorer

    if args.device_entry:
        check_place(args.device_entry)
    options = grid.to_json() | _place(player.environment)
    explorer = Explorer(grid, player, MatrixFolder(args.out, options))
    display = common.display(args)
    explorer.explore(display, limit=args.limit, workers=args.workers, again=args.again)
    return explorer.rows()


def after_stop(args: argparse.Namespace) -> str:
    """How to go on: the same command plays what is left."""
    done = len(list((args.out / "cells").glob("*.json")))
    return f"{done} cells are there; the same command goes on:  {common.command_of(args)}"


def _check_numbers(args: argparse.Namespace) -> None:
    for name, low in (("limit", 0), ("workers", 1), ("threads", 1)):
        value = getattr(args, name)
        if value is not None and value < low:
            raise RequestError(f"--{name} is {value}: it must be at least {low}.")
    if not args.timeout > 0:
        raise RequestError(f"--timeout is {args.timeout:g}: it must be above 0.")
    if server_of(args) and args.device_entry and not args.device:
        raise RequestError(
            "a server does not say what machine it runs on: name it with --device for an entry."
        )


@contextmanager
def _player(args: argparse.Namespace) -> Iterator[tuple[Player, list[Path]]]:
    """What plays, and the folders of the models, where they are here."""
    from luthier.matrix.in_process import ProcessPlayer
    from luthier.runtime.pool import bytes_of

    server = server_of(args)
    if server:
        from luthier.client.address import key_from
        from luthier.matrix.over_http import HttpPlayer

        key, names = key_from(args.api_key_file), tuple(args.model or ())
        with closing(
            HttpPlayer(server, names, key=key, device=args.device, timeout_s=args.timeout)
        ) as remote:
            yield remote, []
        return
    folders: dict[str, Path] = {}
    for text in args.model or [BUILT_IN]:
        name, _, place = text.rpartition("=")
        found = playable_model(place, hub_of(args), args.precision)
        folder = existing_folder(found.folder, "model")
        name = name or found.name
        if name in folders:
            raise RequestError(f"two models are called {name!r}: give one as NAME={place}.")
        folders[name] = folder.resolve()
    player = ProcessPlayer(
        folders,
        threads=args.threads,
        provider=args.provider,
        memory_limit=bytes_of(args.memory_limit) if args.memory_limit else None,
        device=args.device,
        timeout_s=args.timeout,
    )
    yield player, list(folders.values())


def _grid(args: argparse.Namespace, models: tuple[str, ...]) -> Grid:
    from luthier.matrix.grid import Grid, job_named

    return Grid(
        models=models,
        jobs=_values(args, "task", job_named),
        bpm=_values(args, "bpm", int),
        keys=_values(args, "key", str),
        durations_s=_values(args, "duration", float),
        seeds=_values(args, "seed", int),
        steps=_values(args, "steps", int) or (None,),
        batches=_values(args, "batch", int),
        prompt=args.prompt,
        lyrics=args.lyrics,
        region_s=args.region,
    )


def _values(args: argparse.Namespace, name: str, read: Callable[[str], Any]) -> tuple[Any, ...]:
    texts = [text.strip() for text in getattr(args, name).split(",") if text.strip()]
    try:
        return tuple(read(text) for text in texts)
    except ValueError as error:
        raise RequestError(f"--{name} takes numbers by commas: {error}.") from error


def _place(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Of where it plays, what must stay the same for cells to stand beside each other."""
    machine = {k: v for k, v in environment["machine"].items() if k != "load_1min"}
    return {**environment, "machine": machine}


def _foretell(args: argparse.Namespace, cells: tuple[Cell, ...]) -> int:
    value = {"out": str(args.out), "cells": [cell.to_json() for cell in cells]}
    lines = [f"would play {len(cells)} cells into {args.out}:", *(cell.name for cell in cells)]
    common.emit(args, value, "\n".join(lines))
    return 0


def _finish(
    args: argparse.Namespace,
    grid: Grid,
    rows: list[dict[str, Any]],
    environment: dict[str, Any],
    folders: list[Path],
) -> None:
    from luthier.cli.matrix_table import table_text
    from luthier.matrix.devices import write_device_entry
    from luthier.matrix.page import write_matrix_page
    from luthier.matrix.result import PAGE_NAME, collect, write_result

    result = collect(grid, rows, environment)
    write_result(args.out, result, folders)
    write_matrix_page(args.out / PAGE_NAME, result)
    if args.device_entry:
        write_device_entry(args.device_entry, result)
    common.emit(args, result, f"{table_text(result)}\n{args.out / PAGE_NAME}")
