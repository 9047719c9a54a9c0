"""A typed client of a luthier server: submit, follow, download. See docs/client.md."""

from luthier.client.answers import Model, Piece, RemoteTask, Submitted
from luthier.client.client import Client
from luthier.client.errors import ServerError

__all__ = ["Client", "Model", "Piece", "RemoteTask", "ServerError", "Submitted"]
