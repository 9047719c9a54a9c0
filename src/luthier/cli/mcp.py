"""`luthier mcp`: tools for language models, over the Model Context Protocol on standard input and
output.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli import common
from luthier.cli.hub_flags import MODEL_HELP, add_hub_arguments, hub_of
from luthier.cli.server_flags import add_server_arguments, server_of
from luthier.errors import MissingExtraError, RequestError
from luthier.files import existing_folder
from luthier.models import BUILT_IN, playable_model

if TYPE_CHECKING:
    from luthier.mcp.places import Places
    from luthier.mcp.players import Player

HELP = "tools for language models: generate, repaint, status (Model Context Protocol, stdio)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where recordings are, where music goes, and what plays it."""
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="recordings are read below this folder only (default: the current one)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where music is written (default: ROOT/luthier)"
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"{MODEL_HELP} (default: {BUILT_IN})",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all cores)")
    add_hub_arguments(parser, plays=True)
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve tools until standard input ends; see `luthier mcp --help`."""
    try:
        from luthier.mcp.tools import build_server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise MissingExtraError("luthier mcp", "mcp") from error
    from luthier.mcp.places import Places

    root = existing_folder(args.root, "root")
    places = Places(root, args.out or root / "luthier")
    player = _player(args, places)
    try:
        if args.dry_run:
            text = f"would play on {player.where}, read below {places.root}, write to {places.out}"
            value = {"where": player.where, "root": str(places.root), "out": str(places.out)}
            common.emit(args, value, text)
        else:
            build_server(player, places).run("stdio")
    finally:
        player.close()
    return 0


def _player(args: argparse.Namespace, places: Places) -> Player:
    server = server_of(args)
    if server:
        from luthier.client import Client
        from luthier.client.address import key_from
        from luthier.mcp.remote import RemotePlayer

        if args.model is not None or args.threads is not None:
            raise RequestError("--model and --threads are for playing here: leave them out.")
        return RemotePlayer(Client(server, key_from(args.api_key_file)), places.out)
    from luthier.mcp.local import LocalPlayer

    if args.threads is not None and args.threads < 1:
        raise RequestError(f"--threads is {args.threads}: it must be at least 1.")
    found = playable_model(args.model or BUILT_IN, hub_of(args), args.precision)
    return LocalPlayer(existing_folder(found.folder, "model"), args.threads)
