"""`luthier serve`: its flags, upstream's variables, and what it refuses to start with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.cli import serve
from luthier.cli.main import build_parser, main
from luthier.music.mini import onnx_folder
from luthier.server.config import ServerConfig


def config(*words: str, host: str = "127.0.0.1") -> ServerConfig:
    return serve._config(build_parser("serve").parse_args(list(words)), host)


def test_upstream_s_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"host": "127.0.0.1", "port": 8001, "models": ["mini"]}
    found = config()
    assert (found.workers, found.queue_limit, found.keys, found.usual_s) == (1, 200, (), 5.0)
    assert found.worker.models == {"mini": onnx_folder()}


def test_upstream_s_flags(tmp_path: Path) -> None:
    words = ["--host", "0.0.0.0", "--port", "9", "--api-key", "k", "--download-source", "auto"]
    assert main(["serve", *words, "--init-llm", "--lm-model-path", str(tmp_path), "--dry-run"]) == 0
    assert config("--lm-model-path", str(tmp_path)).worker.planner == tmp_path.resolve()


def test_upstream_s_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {
        "ACESTEP_API_KEY": "a, b",
        "ACESTEP_QUEUE_MAXSIZE": "7",
        "ACESTEP_QUEUE_WORKERS": "2",
        "ACESTEP_TMPDIR": str(tmp_path),
        "ACESTEP_CONFIG_PATH": str(onnx_folder()),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = config()
    assert (found.keys, found.queue_limit, found.workers) == (("a", "b"), 7, 2)
    assert found.worker.home == tmp_path.resolve()
    assert list(found.worker.models) == ["onnx"]
    monkeypatch.setenv("ACESTEP_QUEUE_MAXSIZE", "many")
    assert main(["serve", "--dry-run"]) == 2


def test_keys_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("sesame\n\n two \n")
    assert config("--api-key-file", str(path)).keys == ("sesame", "two")
    assert "sesame" not in repr(config("--api-key-file", str(path)))


def test_several_models() -> None:
    found = config("--model", f"big={onnx_folder()}", "--model", "mini")
    assert list(found.worker.models) == ["big", "mini"]
    assert found.worker.default_model == "big"


def test_this_machine_s_names_only_while_it_listens_here() -> None:
    assert "localhost" in config().hosts
    assert config(host="0.0.0.0").hosts == ()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "--api-key"),
        (["--init-llm"], "--lm-model-path"),
        (["--model", "nowhere"], "nowhere does not exist"),
        (["--model", "mini", "--model", "mini"], "two models"),
        (["--api-key", " "], "empty"),
        (["--api-key-file", "nowhere"], "--api-key-file"),
        (["--threads", "0"], "at least 1"),
        (["--workers", "0"], "the queue workers is 0: it must be 1 to"),
        (["--port", "70000"], "the port is 70000: it must be 0 to 65535"),
        (["--keep-days", "nan"], "above 0"),
        (["--keep-size", "much"], "size"),
        (["--audio-root", "nowhere"], "nowhere does not exist"),
    ],
)
def test_what_it_refuses(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *words, "--dry-run"]) in (1, 2)
    assert told in capsys.readouterr().err
