from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.audio.decode import read_audio
from luthier.cli.main import main
from luthier.files import sha256_of
from tiny import SPEC, tiny_onnx

ASKED = ["calm piano", "--bpm", "84", "--key", "A minor", "--duration", "1.5", "--seed", "7"]


def generate(*words: str, out: Path) -> int:
    return main(["generate", *words, "--model", str(tiny_onnx("int8")), "--out", str(out)])


def test_writes_audio_and_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(*ASKED, "--json", out=tmp_path / "x.wav") == 0
    audio, rate = read_audio(tmp_path / "x.wav")
    assert (audio.shape, rate) == ((2, 12_000), SPEC.sample_rate)
    result = json.loads(capsys.readouterr().out)["results"][0]
    assert (result["seed"], result["duration_s"]) == (7, 1.5)
    record = json.loads((tmp_path / "x.wav.run.json").read_text())
    assert record["stage"] == "generate"
    assert record["seeds"] == {"noise": 7}
    assert record["config"]["request"]["key"] == "A minor"
    assert record["config"]["manifest_sha256"] == sha256_of(tiny_onnx("int8") / "manifest.json")


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_the_suffix_chooses_the_format(tmp_path: Path, suffix: str) -> None:
    assert generate(*ASKED, out=tmp_path / f"x.{suffix}") == 0
    audio, _ = read_audio(tmp_path / f"x.{suffix}")
    assert audio.shape[0] == 2


def test_a_batch_is_numbered(tmp_path: Path) -> None:
    assert generate(*ASKED, "--batch", "2", out=tmp_path / "x.wav") == 0
    names = sorted(path.name for path in tmp_path.glob("*.wav"))
    assert names == ["x-1.wav", "x-2.wav"]


def test_the_chosen_seed_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("x", "--duration", "1", out=tmp_path / "a.wav") == 0
    seed = capsys.readouterr().out.split("seed ")[1].split(",")[0]
    assert generate("x", "--duration", "1", "--seed", seed, out=tmp_path / "b.wav") == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bpm", "0"], "bpm is '0': it must be 30 to 300 beats per minute"),
        (["--bpm", "1000"], "bpm is '1000'"),
        (["--key", "Q"], "not a key"),
        (["--duration", "61"], "at most 60 seconds"),
        (["--threads", "0"], "--threads is 0"),
    ],
)
def test_bad_requests_exit_2_and_write_nothing(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("x", *words, out=tmp_path / "x.wav") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_suffix_is_refused_before_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("x", out=tmp_path / "x.xyz") == 2
    assert "suffix must be one of .wav" in capsys.readouterr().err


def test_a_damaged_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(tiny_onnx("int8"), tmp_path / "model"))
    data = bytearray((folder / "dit_decoder.onnx").read_bytes())
    data[1000] ^= 255
    (folder / "dit_decoder.onnx").write_bytes(data)
    out = tmp_path / "x.wav"
    assert main(["generate", *ASKED, "--model", str(folder), "--out", str(out)]) == 1
    assert "dit_decoder.onnx is damaged" in capsys.readouterr().err
    assert not out.exists()


def test_dry_run_says_what_it_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(*ASKED, "--dry-run", out=tmp_path / "x.wav") == 0
    assert "would make 1 × 1.5 s with tiny" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_fresh_process_plays_without_torch(tmp_path: Path) -> None:
    check = (
        "import sys; from luthier.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'diffusers', 'onnx', 'peft', 'datasets'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); sys.exit(code)"
    )
    words = [*ASKED, "--model", str(tiny_onnx("int8")), "--out", str(tmp_path / "x.wav")]
    subprocess.run([sys.executable, "-c", check, "generate", *words], check=True, timeout=120)
    assert generate(*ASKED, out=tmp_path / "y.wav") == 0
    assert (tmp_path / "x.wav").read_bytes() == (tmp_path / "y.wav").read_bytes()
