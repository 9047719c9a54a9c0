"""Ctrl-C and SIGTERM: one way to stop, whatever the process is doing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ctrl_c import heed_ctrl_c
from luthier import stopping
from luthier.cli import common
from luthier.cli.main import COMMANDS, build_parser
from luthier.stopping import Stopped, stop_requests, uninterrupted

# Native code that lets no signal handler of Python run; every one lets other threads run.
NOT_OURS = ("tmp", ".ses")  # onnxruntime notes a session identity in the latter
PATIENT = {
    "hash": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    "torch": "import torch; torch.set_num_threads(1); a = torch.rand(9000, 9000); say(); a @ a",
    "graph": """
        import numpy, onnxruntime
        from onnx import TensorProto, helper
        node = helper.make_node("MatMul", ["a", "a"], ["b"])
        kind = helper.make_tensor_value_info("a", TensorProto.FLOAT, [9000, 9000])
        told = helper.make_tensor_value_info("b", TensorProto.FLOAT, [9000, 9000])
        graph = helper.make_graph([node], "g", [kind], [told])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        a = numpy.ones((9000, 9000), numpy.float32)
        say()
        session.run(None, {"a": a})
    """,
    "wait": "import threading; threading.Lock().acquire(); lock = threading.Lock(); lock.acquire();"
    " say(); lock.acquire()",
}
_HEAD = """
import argparse, sys
from pathlib import Path
from luthier import stopping
from luthier.cli.common import run_guarded
from luthier.files import atomic_folder, temporary_folder
from luthier.progress import Display
stopping.PATIENCE_S = {patience}

def say():
    print("ready", flush=True)

def work(args):
    out = Path({out!r})
    with atomic_folder(out) as folder, temporary_folder() as other, Display().task("x", 2):
        (folder / "half").write_text("half")
        (other / "half").write_text("half")
{body}
    return 0

args = argparse.Namespace(json="--json" in sys.argv, verbose=False, quiet=False)
args.words = ["luthier", "export", "a b"]
sys.exit(run_guarded(work, args, "luthier"))
"""


def started(tmp_path: Path, body: str, *words: str, patience: float = 7.0) -> subprocess.Popen[str]:
    said = body if "say()" in body else f"say(); {body}"
    inner = textwrap.indent(textwrap.dedent(said).strip(), " " * 8)
    code = _HEAD.format(patience=patience, out=str(tmp_path / "out"), body=inner)
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp"), "OMP_NUM_THREADS": "1"},
        preexec_fn=heed_ctrl_c,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    return process


def left(tmp_path: Path) -> list[str]:
    return sorted(
        str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.name not in NOT_OURS
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "kind",
    ["wait", "hash", *(pytest.param(k, marks=pytest.mark.slow) for k in ("torch", "graph"))],
)
def test_native_work_is_left_when_patience_ends(
    tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    quick = kind in ("wait", "hash")
    process = started(tmp_path, PATIENT[kind], patience=0.5 if quick else 7.0)
    at = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - at < 10
    assert process.returncode == 128 + number
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"luthier: stopped by {name}: nothing half-written is left; start anew with  " in errors
    assert errors.endswith("luthier export 'a b'\n")
    assert left(tmp_path) == []


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    process = started(tmp_path, PATIENT["hash"], patience=60)
    process.send_signal(signal.SIGINT)
    time.sleep(0.8)
    assert process.poll() is None
    at = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - at < 2
    assert process.returncode == 130
    assert "stopped by Ctrl-C" in errors
    assert left(tmp_path) == []


def test_two_signals_together_are_one_request(tmp_path: Path) -> None:
    body = """
        import time
        try:
            say()
            time.sleep(60)
        finally:
            time.sleep(0.5)
            Path({out!r}).write_text("tidied up")
    """.format(out=str(tmp_path / "note"))
    process = started(tmp_path, body)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert errors.count("stopped by SIGTERM") == 1
    assert (tmp_path / "note").read_text() == "tidied up"


@pytest.mark.parametrize("body", ["import time; time.sleep(60)", PATIENT["hash"]])
def test_programs_are_told_as_json(tmp_path: Path, body: str) -> None:
    process = started(tmp_path, body, "--json", patience=0.5)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=30)
    told = json.loads(out)
    assert (told["kind"], told["signal"]) == ("Stopped", "SIGTERM")
    assert f"luthier: {told['error']}\n" in errors


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    code = (
        "import argparse, signal, os, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from luthier.cli.common import run_guarded\n"
        "args = argparse.Namespace(json=False, verbose=False)\n"
        "sys.exit(run_guarded(lambda a: os.kill(os.getpid(), signal.SIGINT) or 5, args, 'x'))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 5


def stop_myself(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.05)


def in_a_stage() -> None:
    with stopping.heed_signals(lambda stop: None), stopping.under_way("the stage train"):
        stop_myself()


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with pytest.raises(Stopped) as caught:
        in_a_stage()
    assert (caught.value.signal, caught.value.place) == (signal.SIGTERM, "the stage train")
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before
    assert stopping._last_acts == []


def test_what_must_not_be_cut_ends_first() -> None:
    done = []

    def write() -> None:
        with uninterrupted():
            stop_myself(signal.SIGINT)
            done.append("whole")
        done.append("not reached")

    with pytest.raises(Stopped):
        write()
    assert done == ["whole"]


def test_a_request_is_noted_and_cuts_only_what_it_may() -> None:
    done = []

    def long() -> None:
        stop_myself()
        done.append("not reached")

    with stop_requests() as asked:
        asked.may_cut_short(lambda: done.append("shown"))
        asked.may_cut_short(long)
        asked.may_cut_short(lambda: done.append("no more"))
    assert asked.signal == signal.SIGTERM
    assert done == ["shown"]


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_says_how_to_go_on(verb: str, tmp_path: Path) -> None:
    parser = build_parser(verb)
    needed = {
        "curate": [str(tmp_path), "--out", str(tmp_path)],
        "inspect": ["x.wav"],
        "prompts": ["--interactive", "x.wav"],
        "dataset": ["check", str(tmp_path)],
        "train": ["--dataset", str(tmp_path), "--exp-name", "x", "--logs-dir", str(tmp_path)],
        "evaluate": [str(tmp_path), "--reference", str(tmp_path)],
        "compare": [str(tmp_path), str(tmp_path), "--reference", str(tmp_path)],
        "merge": ["--base-model", "mini", "--adapter", "x", "--output-dir", "y"],
        "export": ["x"],
        "trace": ["x"],
        "adapter": ["show", "x"],
    }.get(verb, [])
    args = parser.parse_args(needed)
    args.words = ["luthier", verb, *needed]
    said = getattr(args, "after_stop", common.start_anew)(args)
    assert said.endswith("  " + common.command_of(args))
