"""The contract of `scripts/validate_checkpoint.py`, on real checkpoints of a tiny training run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from luthier.audio.encode import write_audio
from luthier.cli.scripts.validate_checkpoint import main
from tiny import make_tiny_model
from tiny_checkpoints import checkpoint, tiny_run, validation_set

SCRIPT = Path(__file__).parents[2] / "scripts" / "validate_checkpoint.py"
CONTRACT = ["checkpoint", "fad_score", "clap_score", "style_coverage", "samples_generated"]
QUICK = ["--sample-duration", "1", "--sample-steps", "1"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.json"
    rows = [{"prompt": "calm piano", "style_id": f"CORE-0{i}", "bpm": 80} for i in (1, 2, 3)]
    path.write_text(json.dumps({"prompts": rows}))
    return path


@pytest.fixture
def flags(prompts: Path, tmp_path: Path) -> list[str]:
    """Of a quick validation that keeps its clips under tmp_path/samples."""
    kept = ["--generate-samples", "--sample-output-dir", str(tmp_path / "samples")]
    return [
        "--validation-set",
        str(validation_set()),
        "--prompts-file",
        str(prompts),
        *kept,
        *QUICK,
    ]


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_json_is_the_contracts(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(checkpoint(2), tmp_path / checkpoint(2).name)
    page = tmp_path / "page.html"
    assert main(["--checkpoint", str(path), *flags, "--json", "--html", str(page)]) == 0
    first = told(capsys)
    assert list(first)[:5] == CONTRACT
    assert first["checkpoint"] == checkpoint(2).name
    assert isinstance(first["fad_score"], float)
    assert first["samples_generated"] == 3
    assert set(first["style_coverage"]) == {"CORE-01", "CORE-02", "CORE-03"}  # type: ignore[call-overload]
    assert first["samples"] == {"made": 3, "kept": 0}
    names = sorted(p.name for p in (tmp_path / "samples").glob("*.wav"))
    assert names == ["CORE-01.wav", "CORE-02.wav", "CORE-03.wav"]
    assert page.read_text().count("<audio") == 4
    # Training can keep checkpoints by this.
    assert json.loads((path / "evaluation.json").read_text())["fad_score"] == first["fad_score"]

    assert main(["--checkpoint", str(path), *flags, "--json"]) == 0
    second = told(capsys)
    assert second["samples"] == {"made": 0, "kept": 3}
    assert {k: second[k] for k in CONTRACT} == {k: first[k] for k in CONTRACT}


def test_without_generate_samples_nothing_is_kept(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tiny_run().rglob("*.wav"))
    words = ["--checkpoint", str(checkpoint(1)), "--validation-set", str(validation_set())]
    assert main([*words, "--prompts-file", str(prompts), *QUICK]) == 0
    assert "3 clips against 1 tracks" in capsys.readouterr().out
    assert sorted(tiny_run().rglob("*.wav")) == before


def test_prompts_that_are_asked_for_are_played_though_other_clips_lie_there(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(checkpoint(2), tmp_path / checkpoint(2).name)
    assert main(["--checkpoint", str(path), *flags]) == 0
    earlier = sorted((tmp_path / "samples").iterdir())
    other = tmp_path / "other.txt"
    other.write_text("slow rain\nquick rain")
    capsys.readouterr()
    kept = ["--sample-output-dir", str(tmp_path / "samples")]
    words = ["--checkpoint", str(path), "--validation-set", str(validation_set()), *kept, *QUICK]
    assert main([*words, "--json"]) == 0
    assert told(capsys)["samples_generated"] == 3  # the earlier ones
    assert main([*words, "--json", "--prompts-file", str(other)]) == 0
    assert told(capsys)["samples_generated"] == 2
    assert sorted((tmp_path / "samples").iterdir()) == earlier


def test_compare_ranks_and_names_the_best(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(checkpoint(1)), str(checkpoint(2))]
    copies = [str(shutil.copytree(p, tmp_path / "run" / Path(p).name)) for p in paths]
    assert main(["compare", "--checkpoints", *copies, *flags]) == 0
    text = capsys.readouterr().out
    assert text.count("_lora") >= 3
    assert "is best: " in text
    # Common flags may stand before the sub-command, and what was played is not played again.
    assert main(["--json", "compare", "--checkpoints", *copies, *flags]) == 0
    found = told(capsys)
    assert {row["name"] for row in found["ranking"]} == {Path(p).name for p in paths}  # type: ignore[attr-defined]
    assert all(row["samples"] == {"made": 0, "kept": 3} for row in found["evaluations"])  # type: ignore[attr-defined]


def test_a_dry_run_plays_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--checkpoint", str(checkpoint(1)), "--validation-set", str(validation_set())]
    kept = ["--generate-samples", "--sample-output-dir", str(tmp_path / "s"), "--dry-run"]
    assert main([*words, *kept]) == 0
    assert "would play and measure 38 clips against 1 tracks" in capsys.readouterr().out
    assert not (tmp_path / "s").exists()


def broken_weights(path: Path) -> None:
    tensors = load_file(path / "adapter_model.safetensors")
    tensors[min(tensors)][0, 0] = np.nan
    save_file(tensors, path / "adapter_model.safetensors")


def test_bad_input_is_a_sentence_and_exit_1(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(checkpoint(1))
    nan = shutil.copytree(good, tmp_path / "nan")
    broken_weights(nan)
    other = make_tiny_model(tmp_path / "other", seed=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.mp3").write_text("this is not audio")
    rest = flags[2:]
    wanted = ["--validation-set", str(validation_set())]
    for words, message in (
        (["--checkpoint", "nowhere", *flags], "does not exist"),
        (["--checkpoint", str(empty), *flags], "neither a checkpoint"),
        (["--checkpoint", str(nan), *flags], "NaN"),
        (["--checkpoint", good, *flags, "--base-model", str(other)], "another model"),
        (["--checkpoint", good, "--validation-set", str(empty), *rest], "has no audio in it"),
        (["--checkpoint", good, "--validation-set", str(text), *rest], "a.mp3"),
        (["--checkpoint", good, *flags, "--embedding", "vggish"], "choices are mel-stats-v1"),
        (["compare", "--checkpoints", good, *flags], "at least two"),
    ):
        assert main(words) == 1, message
        said = capsys.readouterr()
        assert message in said.err
        assert said.err.startswith("validate_checkpoint.py")
        assert "Traceback" not in said.err
    with pytest.raises(SystemExit) as caught:
        main(["--checkpoint", good, *wanted, "--fad"])
    assert caught.value.code == 1


def test_an_unreadable_recording_is_found_before_anything_is_played(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.mp3").write_text("this is not audio")
    words = ["--checkpoint", str(checkpoint(1)), *flags]
    words[words.index("--validation-set") + 1] = str(bad)
    assert main(words) == 1
    assert "a.mp3" in capsys.readouterr().err
    assert not (tmp_path / "samples").exists()


def test_the_script_runs_on_a_folder_of_audio(tmp_path: Path) -> None:
    for seed, name in enumerate(("clips/a.wav", "real/a.wav")):
        noise = np.random.default_rng(seed).normal(scale=0.1, size=(1, 3 * 16_000))
        write_audio(tmp_path / name, noise.astype(np.float32), 16_000)
    words = ["--checkpoint", str(tmp_path / "clips"), "--validation-set", str(tmp_path / "real")]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout))[:5] == CONTRACT


@pytest.mark.slow
def test_one_clip_a_style(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--checkpoint", str(checkpoint(1)), "--validation-set", str(validation_set())]
    kept = ["--generate-samples", "--sample-output-dir", str(tmp_path / "s"), *QUICK, "--json"]
    path = shutil.copytree(checkpoint(1), tmp_path / checkpoint(1).name)
    words[1] = str(path)
    assert main([*words, *kept]) == 0
    found = told(capsys)
    assert found["samples_generated"] == 38
    assert len(found["style_coverage"]) == 38  # type: ignore[arg-type]
