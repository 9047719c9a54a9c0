"""One line of JSON for each thing that happened, on standard error. Never a prompt, never a key."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """A record as one line of JSON; `extra={"facts": {...}}` adds to it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.fromtimestamp(record.created, UTC)
        row = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "what": record.getMessage(),
        }
        # json.dumps escapes line ends, so that what a client sends cannot forge a line.
        return json.dumps(row | getattr(record, "facts", {}), default=str)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send luthier's log of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    # The web server's own complaints in the same shape, and without their tracebacks' texts.
    for name, least in (("luthier.server", level), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(least)
        logger.propagate = False
    # What is wrong with a client's form is told to the client.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
