"""`--server`: do it on a server instead of here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli import common

if TYPE_CHECKING:
    from luthier.client import Client


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which server, and where its key is."""
    group = parser.add_argument_group("on a server")
    group.add_argument(
        "--server",
        metavar="URL",
        help="let a luthier server do it, say http://studio:8001 (default: $LUTHIER_SERVER; "
        '"" is this machine)',
    )
    group.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="holds the server's key (default: $LUTHIER_API_KEY or $ACESTEP_API_KEY)",
    )


def server_of(args: argparse.Namespace) -> str:
    """The server's address; empty where the work is to be done here."""
    from luthier.client.address import SERVER_VARIABLE, server_address

    named = os.environ.get(SERVER_VARIABLE, "") if args.server is None else args.server
    return server_address(named) if named.strip() else ""


@contextmanager
def client_of(args: argparse.Namespace, server: str) -> Iterator[Client]:
    """A client of `server`, with the key, that says why it waits."""
    from luthier.client import Client
    from luthier.client.address import key_from

    with Client(server, key_from(args.api_key_file), said=common.display(args).say) as client:
        yield client
