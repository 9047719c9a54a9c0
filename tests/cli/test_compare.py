"""`luthier compare` as a user meets it: folders of clips, evaluations, and which is best."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.cli import common, compare, evaluate
from luthier.errors import LuthierError

RATE = 24_000


def tones(path: Path, seed: int, noise: float) -> None:
    """4 s of a chord with a little, or a lot of, noise."""
    generator = np.random.default_rng(seed)
    time = np.arange(4 * RATE) / RATE
    total = noise * generator.normal(size=time.size)
    for hz in generator.choice([220.0, 277.2, 329.6, 440.0], 3, replace=False):
        total += 0.2 * np.sin(2 * np.pi * hz * time) * (1 + np.sin(8 * time)) / 2
    write_audio(path, total[None].astype(np.float32), RATE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare")
    for seed in range(3):
        tones(root / "real" / f"{seed}.wav", seed, 0.003)
        for step, noise in ((100, 0.1), (200, 0.004), (300, 0.3)):
            name = f"epoch=0-step={step}_lora"
            tones(root / name / f"{seed}.wav", 10 + seed, noise)
    return root


def steps(folders: Path) -> list[str]:
    return [str(folders / f"epoch=0-step={step}_lora") for step in (100, 200, 300)]


def luthier(*words: str) -> int:
    parser = common.CommandParser()
    compare.add_arguments(parser)
    common.add_common_arguments(parser)
    return compare.run(parser.parse_args(list(words)))


def test_the_best_is_named_with_the_reason(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "ranking.json", tmp_path / "page.html"
    flags = ["--reference", str(folders / "real"), "--out", str(out), "--html", str(page)]
    assert luthier(*steps(folders), *flags) == 0
    text = capsys.readouterr().out
    assert "* epoch=0-step=200_lora" in text
    assert "step=200_lora is best: it is nearest to the real tracks" in text
    assert "over-fit" in text
    told = json.loads(out.read_text())
    assert told["best"] == "epoch=0-step=200_lora"
    assert [row["step"] for row in told["ranking"]] == [200, 100, 300]
    # Three checkpoints side by side for each of three clips, and three real tracks.
    assert page.read_text().count("<audio") == 12


def test_evaluations_that_were_written_are_ranked_without_audio(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = common.CommandParser()
    evaluate.add_arguments(parser)
    common.add_common_arguments(parser)
    files = []
    for number, path in enumerate(steps(folders)[:2]):
        files.append(str(tmp_path / f"{number}.json"))
        words = [path, "--reference", str(folders / "real"), "--out", files[-1], "--quiet"]
        assert evaluate.run(parser.parse_args(words)) == 0
    assert luthier(*files, "--json") == 0
    assert json.loads(capsys.readouterr().out)["best"] == "epoch=0-step=200_lora"


def test_a_dry_run_measures_nothing(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.json"
    flags = ["--reference", str(folders / "real"), "--dry-run", "--out", str(out)]
    assert luthier(*steps(folders), *flags) == 0
    assert capsys.readouterr().out.count("would measure 3 clips against 3 tracks") == 3
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "y"], "against real tracks"),
        (["a/x", "b/x", "--reference", "r"], "called x"),
        (["a.json", "b.json"], "does not exist"),
        (["only.json"], "at least two"),
    ],
)
def test_bad_words_are_sentences(words: list[str], message: str) -> None:
    with pytest.raises(LuthierError, match=message):
        luthier(*words)
