"""The flags of `luthier serve`."""

from __future__ import annotations

import argparse
from pathlib import Path

_MODEL_HELP = (
    "mini, the built-in model, or a folder of exported graphs; may be repeated, the first one is "
    "the default (default mini, or ACESTEP_CONFIG_PATH)"
)


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Add all of them."""
    add_upstream_flags(parser)
    add_playing_flags(parser)
    add_door_flags(parser)


def add_upstream_flags(parser: argparse.ArgumentParser) -> None:
    """Add ACE-Step's flags. Defaults come from its environment variables."""
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
        metavar="MODEL",
        help="a folder with an exported planner, or one of the hub (or ACESTEP_LM_MODEL_PATH)",
    )
    add("--init-llm", action="store_true", help="refuse to start without a planner")
    add(
        "--download-source",
        choices=("huggingface", "modelscope", "auto"),
        default="auto",
        help="taken for upstream's sake; this server downloads nothing",
    )


def add_playing_flags(parser: argparse.ArgumentParser) -> None:
    """Add what says where and how much is played and kept."""
    add = parser.add_argument_group("this server's own").add_argument
    add("--home", type=Path, metavar="DIR", help="for queue, results and uploads "
        "(default work/server, or ACESTEP_TMPDIR)")  # fmt: skip
    add("--workers", type=int, metavar="N", help="processes that play (default 1)")
    add("--threads", type=int, metavar="N", help="of each worker (default: all cores)")
    add("--provider", default="auto", metavar="NAME", help="cpu, cuda, coreml, directml or auto")
    add(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="where workers play: in their own process, or in actors of a Ray cluster "
        "(pip install luthier[cluster]); models must lie at the same place on every machine",
    )
    add(
        "--ray-address",
        default="auto",
        metavar="ADDRESS",
        help="of the cluster, e.g. host:6379 (default auto: the one that this machine belongs to)",
    )
    add("--memory-limit", metavar="SIZE", help="of a worker's open graphs, e.g. 4G")
    add("--queue-limit", type=int, metavar="N", help="how many tasks may wait (default 200)")
    add("--keep-days", type=float, default=7.0, metavar="N", help="ended tasks stay, in time in "
        "which the machine runs (default 7)")  # fmt: skip
    add("--keep-size", default="20G", metavar="SIZE", help="of all results; the oldest go first "
        "(default 20G)")  # fmt: skip
    add("--log-prompts", action="store_true", help="write prompts and lyrics to the log")


def add_door_flags(parser: argparse.ArgumentParser) -> None:
    """Add what says who may come in, and what they may use."""
    add = parser.add_argument_group("who may come in, and what they may use").add_argument
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
        "--lora-root",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder below which requests may name adapters; may be repeated",
    )
    add(
        "--matrix",
        type=Path,
        metavar="FILE",
        help="matrix.json of `luthier matrix` on this device: /v1/capabilities tells what it "
        "recommends",
    )
    add(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a web origin that may use the server, beside pages of this machine; may be repeated",
    )
    add(
        "--webhook-host",
        action="append",
        default=[],
        metavar="HOST",
        help="where webhooks may go, e.g. hooks.example.com, .example.com or "
        "http://127.0.0.1:9000; may be repeated (default: nowhere)",
    )
    add(
        "--rate",
        type=float,
        metavar="N",
        help="requests a second that each key or address may send on average; 0 for any number "
        "(default 20, or any number while only this machine is let in)",
    )
    add("--connections", type=int, default=4096, metavar="N", help="at a time (default 4096)")
    add("--open-metrics", action="store_true", help="let /metrics be read without a key")
    add(
        "--data-root",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="let clients curate, build data sets and train below this folder; needs a key or "
        "--allow-training; may be repeated (default: they may not)",
    )
    add("--training-jobs", type=int, default=1, metavar="N", help="at the same time (default 1)")
    add("--allow-training", action="store_true", help="let clients train without a key")
    add("--allow-open", action="store_true", help="let other machines in without a key")
