"""`luthier serve` (alias `acestep-api`): ACE-Step's REST API over a durable queue."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from luthier.cli import common
from luthier.cli.hub_flags import add_hub_arguments, hub_of
from luthier.cli.serve_flags import add_serve_flags
from luthier.cli.server_environment import planner_of, provider_of, seconds_of
from luthier.errors import MissingExtraError, RequestError
from luthier.files import existing_folder
from luthier.models import BUILT_IN, playable_model

if TYPE_CHECKING:
    from luthier.server.config import ServerConfig

HELP = "play over HTTP: ACE-Step's REST API over a durable queue"
_USUAL_RATE = 20.0
_CONFIG_PATHS = ("ACESTEP_CONFIG_PATH", "ACESTEP_CONFIG_PATH2", "ACESTEP_CONFIG_PATH3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; see `serve_flags`."""
    add_serve_flags(parser)
    add_hub_arguments(parser, plays=True)
    parser.set_defaults(own_signals=True)  # the server's loop stops itself


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; see `luthier serve --help`."""
    # What is imported now is no garbage: a sixth of the start went into looking. `run_server` turns
    # the collector on again once everything is there.
    gc.disable()
    try:
        return _run(args)
    finally:
        gc.enable()


def _run(args: argparse.Namespace) -> int:
    from luthier.server.http.logs import log_to_stderr
    from luthier.server.serve import check_door, run_server

    host = args.host or os.environ.get("ACESTEP_API_HOST") or "127.0.0.1"
    port = _number(args.port, "ACESTEP_API_PORT", 8001, low=0, high=65535)
    config = _config(args, host)
    check_door(host, config.keys, is_open=args.allow_open)
    if config.data_roots and not (config.keys or args.allow_training):
        raise RequestError(
            "--data-root lets clients start trainings, and there is no key: give --api-key-file or "
            "set ACESTEP_API_KEY; or, where everybody on this machine may, say --allow-training."
        )
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
    from luthier.server.acestep.recommendations import explored_from
    from luthier.server.config import LOOPBACK, ServerConfig, WorkerSetup
    from luthier.server.webhooks.allowed_hosts import allowed_host

    home = args.home or _path_of("ACESTEP_TMPDIR") or Path("work/server")
    if args.threads is not None and args.threads < 1:
        raise RequestError(f"--threads is {args.threads}: it must be at least 1.")
    if not args.keep_days > 0:
        raise RequestError(f"--keep-days is {args.keep_days}: it must be above 0.")
    worker = WorkerSetup(
        home=home.expanduser().resolve(),
        models=_models(args),
        planner=planner_of(args.lm_model_path, hub_of(args), args.precision, needed=args.init_llm),
        threads=args.threads,
        provider=provider_of(args.provider),
        memory_limit=bytes_of(args.memory_limit) if args.memory_limit else None,
        engine=_engine(args.engine),
        ray_address=args.ray_address,
    )
    return ServerConfig(
        worker=worker,
        keys=_keys(args),
        hosts=LOOPBACK if host in LOOPBACK else (),
        origins=tuple(args.cors_origin),
        rate=_rate(args.rate, host),
        connections=_number(args.connections, "", 4096),
        open_metrics=args.open_metrics,
        log_prompts=args.log_prompts,
        data_roots=tuple(existing_folder(p, "data root").resolve() for p in args.data_root),
        training_jobs=_number(args.training_jobs, "", 1, high=64),
        webhook_hosts=tuple(map(allowed_host, args.webhook_host)),
        audio_roots=tuple(existing_folder(p, "audio root").resolve() for p in args.audio_root),
        lora_roots=tuple(existing_folder(p, "LoRA root").resolve() for p in args.lora_root),
        workers=_number(args.workers, "ACESTEP_QUEUE_WORKERS", 1),
        queue_limit=_number(args.queue_limit, "ACESTEP_QUEUE_MAXSIZE", 200),
        usual_s=seconds_of("ACESTEP_AVG_JOB_SECONDS", ServerConfig.usual_s),
        explored=explored_from(args.matrix, worker.models) if args.matrix else {},
        answer_s=seconds_of("ACESTEP_GENERATION_TIMEOUT", ServerConfig.answer_s),
        keep_s=args.keep_days * 86400,
        keep_bytes=bytes_of(args.keep_size),
        upload_bytes=bytes_of(args.upload_size),
    )


def _models(args: argparse.Namespace) -> dict[str, Path]:
    listed = [path for name in _CONFIG_PATHS if (path := os.environ.get(name))]
    named = args.model or listed or [BUILT_IN]
    found: dict[str, Path] = {}
    for text in named:
        name, equals, place = text.rpartition("=")
        model = playable_model(place, hub_of(args), args.precision)
        folder = existing_folder(model.folder, "model").resolve()
        name = name if equals else model.name
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


def _engine(name: str) -> Literal["process", "ray"]:
    if name == "process":
        return "process"
    if find_spec("ray") is None:
        raise MissingExtraError("--engine ray", "cluster")
    return "ray"


def _rate(given: float | None, host: str) -> float | None:
    from luthier.server.config import LOOPBACK

    if given is None:
        return None if host in LOOPBACK else _USUAL_RATE
    if not 0 <= given < float("inf"):
        raise RequestError(f"--rate is {given}: it must be 0 or above.")
    return given or None


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
