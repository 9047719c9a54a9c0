"""`luthier serve` (alias `acestep-api`): ACE-Step's REST API over a durable queue."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli import common
from luthier.errors import RequestError
from luthier.files import existing_folder

if TYPE_CHECKING:
    from luthier.server.config import ServerConfig

HELP = "play over HTTP: ACE-Step's REST API over a durable queue"
_CONFIG_PATHS = ("ACESTEP_CONFIG_PATH", "ACESTEP_CONFIG_PATH2", "ACESTEP_CONFIG_PATH3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add upstream's flags, then our own. Defaults come from upstream's environment variables."""
    add = parser.add_argument
    add("--host", help="where to listen (default 127.0.0.1, or ACESTEP_API_HOST)")
    add("--port", type=int, help="default 8001, or ACESTEP_API_PORT; 0 takes a free one")
    add(
        "--api-key",
        action="append",
        metavar="KEY",
        help="a key that clients need; may be repeated. Others on this machine can read it in the "
        "list of processes: ACESTEP_API_KEY (several by commas) or --api-key-file hide it",
    )
    add("--api-key-file", type=Path, metavar="FILE", help="a file with a key on each line")
    add("--model", action="append", metavar="[NAME=]MODEL", help=_MODEL_HELP)
    add(
        "--lm-model-path",
        type=Path,
        metavar="DIR",
        help="a folder with an exported planner (or ACESTEP_LM_MODEL_PATH)",
    )
    add("--init-llm", action="store_true", help="refuse to start without a planner")
    add(
        "--download-source",
        choices=("huggingface", "modelscope", "auto"),
        default="auto",
        help="taken for upstream's sake; this server downloads nothing",
    )
    group = parser.add_argument_group("this server's own")
    add = group.add_argument
    add("--home", type=Path, metavar="DIR", help="for queue, results and uploads "
        "(default work/server, or ACESTEP_TMPDIR)")  # fmt: skip
    add("--workers", type=int, metavar="N", help="processes that play (default 1)")
    add("--threads", type=int, metavar="N", help="of each worker (default: all cores)")
    add("--provider", default="auto", metavar="NAME", help="cpu, cuda, coreml, directml or auto")
    add("--memory-limit", metavar="SIZE", help="of a worker's open graphs, e.g. 4G")
    add("--queue-limit", type=int, metavar="N", help="how many tasks may wait (default 200)")
    add("--keep-days", type=float, default=7.0, metavar="N", help="ended tasks stay (default 7)")
    add("--keep-size", default="20G", metavar="SIZE", help="of all results (default 20G)")
    add("--upload-size", default="200M", metavar="SIZE", help="of a request (default 200M)")
    add(
        "--audio-root",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder below which requests may name recordings by path; may be repeated",
    )
    add(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a web origin that may use the server, beside pages of this machine; may be repeated",
    )
    add("--allow-open", action="store_true", help="let other machines in without a key")


_MODEL_HELP = (
    "mini, the built-in model, or a folder of exported graphs; may be repeated, the first one is "
    "the default (default mini, or ACESTEP_CONFIG_PATH)"
)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; see `luthier serve --help`."""
    from luthier.server.logs import log_to_stderr
    from luthier.server.serve import check_door, run_server

    host = args.host or os.environ.get("ACESTEP_API_HOST") or "127.0.0.1"
    port = _number(args.port, "ACESTEP_API_PORT", 8001, low=0, high=65535)
    config = _config(args, host)
    check_door(host, config.keys, is_open=args.allow_open)
    names = ", ".join(config.worker.models)
    if args.dry_run:
        value = {"host": host, "port": port, "models": list(config.worker.models)}
        common.emit(args, value, f"would serve {names} at {host}:{port}")
        return 0
    if not args.quiet:
        log_to_stderr()

    def ready(address: str) -> None:
        text = f"{names} at {address} (tasks and results in {config.worker.home})"
        common.emit(args, {"address": address, "home": str(config.worker.home)}, text)

    run_server(config, host, port, ready)
    return 0


def _config(args: argparse.Namespace, host: str) -> ServerConfig:
    from luthier.runtime.pool import bytes_of
    from luthier.server.config import LOOPBACK, ServerConfig, WorkerSetup

    planner = args.lm_model_path or _path_of("ACESTEP_LM_MODEL_PATH")
    if args.init_llm and planner is None:
        raise RequestError("--init-llm needs a planner: name its folder with --lm-model-path.")
    home = args.home or _path_of("ACESTEP_TMPDIR") or Path("work/server")
    if args.threads is not None and args.threads < 1:
        raise RequestError(f"--threads is {args.threads}: it must be at least 1.")
    if not args.keep_days > 0:
        raise RequestError(f"--keep-days is {args.keep_days}: it must be above 0.")
    worker = WorkerSetup(
        home=home.expanduser().resolve(),
        models=_models(args.model),
        planner=existing_folder(planner, "planner").resolve() if planner else None,
        threads=args.threads,
        provider=args.provider,
        memory_limit=bytes_of(args.memory_limit) if args.memory_limit else None,
    )
    return ServerConfig(
        worker=worker,
        keys=_keys(args),
        hosts=LOOPBACK if host in LOOPBACK else (),
        origins=tuple(args.cors_origin),
        audio_roots=tuple(existing_folder(p, "audio root").resolve() for p in args.audio_root),
        workers=_number(args.workers, "ACESTEP_QUEUE_WORKERS", 1),
        queue_limit=_number(args.queue_limit, "ACESTEP_QUEUE_MAXSIZE", 200),
        keep_s=args.keep_days * 86400,
        keep_bytes=bytes_of(args.keep_size),
        upload_bytes=bytes_of(args.upload_size),
    )


def _models(given: list[str] | None) -> dict[str, Path]:
    from luthier.music.mini import onnx_folder

    named = given or [path for name in _CONFIG_PATHS if (path := os.environ.get(name))] or ["mini"]
    found: dict[str, Path] = {}
    for text in named:
        name, equals, place = text.rpartition("=")
        if place == "mini":
            name, folder = name or "mini", onnx_folder()
        else:
            folder = existing_folder(Path(place), "model").resolve()
            name = name if equals else folder.name
        if name in found:
            raise RequestError(f"two models are called {name!r}: give one as NAME={place}.")
        found[name] = folder
    return found


def _keys(args: argparse.Namespace) -> tuple[str, ...]:
    keys = list(args.api_key or ())
    if args.api_key_file:
        try:
            keys += args.api_key_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"--api-key-file cannot be read: {error}.") from error
    if not keys:
        keys = os.environ.get("ACESTEP_API_KEY", "").split(",")
    keys = [key.strip() for key in keys if key.strip()]
    if (args.api_key or args.api_key_file) and not keys:
        raise RequestError("the key that was given is empty.")
    return tuple(keys)


def _number(
    given: int | None, variable: str, default: int, *, low: int = 1, high: int = 10**6
) -> int:
    text = os.environ.get(variable, "")
    if given is None and text and not text.isdecimal():
        raise RequestError(f"{variable} is {text!r}: it must be a whole number.")
    number = given if given is not None else int(text or default)
    if not low <= number <= high:
        name = variable.removeprefix("ACESTEP_").removeprefix("API_").lower().replace("_", " ")
        raise RequestError(f"the {name} is {number}: it must be {low} to {high}.")
    return number


def _path_of(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text) if text else None


def main() -> int:
    """`acestep-api`: `luthier serve` under upstream's name."""
    from luthier.cli.main import main as luthier

    return luthier(["serve", *sys.argv[1:]])
