"""`luthier evaluate` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.encode import write_audio
from luthier.cli import common, evaluate
from luthier.errors import LuthierError, PathError, RequestError
from luthier.files import write_json

RATE = 24_000


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for seed, name in enumerate(("clips/a.wav", "clips/b.wav", "real/a.wav")):
        noise = np.random.default_rng(seed).normal(scale=0.1, size=(2, 4 * RATE))
        write_audio(tmp_path / name, noise.astype(np.float32), RATE)
    return tmp_path


def luthier(folders: Path, *flags: str) -> int:
    parser = common.CommandParser()
    evaluate.add_arguments(parser)
    common.add_common_arguments(parser)
    first = [str(folders / "clips"), "--reference", str(folders / "real")]
    return evaluate.run(parser.parse_args([*first, *flags]))


def test_a_table_for_people(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert luthier(folders) == 0
    out = capsys.readouterr().out
    assert out.startswith("clips: 2 clips against 1 tracks")
    assert "mel-stats-v1, 14 against 7 windows" in out
    assert "not asked" in out


def test_json_for_programs(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(folders / "r.json", [{"file": "a.wav", "bpm": 90, "style_id": "CORE-01"}])
    flags = ["--requests", str(folders / "r.json"), "--checkpoint", "epoch=0-step=50000_lora"]
    assert luthier(folders, "--json", *flags) == 0
    told = json.loads(capsys.readouterr().out)
    first = ["checkpoint", "fad_score", "clap_score", "style_coverage"]
    assert list(told)[:5] == [*first, "samples_generated"]
    assert told["checkpoint"] == "epoch=0-step=50000_lora"
    assert told["style_coverage"] == {"CORE-01": None}
    assert told["tempo"]["n"] == 1
    assert told["key"] is None


def test_quiet_writes_and_says_nothing(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert luthier(folders, "--quiet", "--out", str(folders / "e.json")) == 0
    assert capsys.readouterr() == ("", "")
    assert json.loads((folders / "e.json").read_text())["samples_generated"] == 2


def test_a_dry_run_writes_nothing(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert luthier(folders, "--dry-run", "--out", str(folders / "e.json")) == 0
    assert "measure 2 clips against 1 tracks" in capsys.readouterr().out
    assert not (folders / "e.json").exists()


@pytest.mark.parametrize(
    ("flags", "kind", "code"),
    [
        (["--embedding", "vggish"], RequestError, 2),
        (["--requests", "nowhere.json"], PathError, 1),
        (["--out", "/proc/nowhere/e.json"], PathError, 1),
    ],
)
def test_bad_flags_are_sentences(
    folders: Path, flags: list[str], kind: type[LuthierError], code: int
) -> None:
    with pytest.raises(kind) as caught:
        luthier(folders, *flags)
    assert caught.value.exit_code == code


def test_a_gate_that_is_not_passed_can_be_an_exit_code(folders: Path) -> None:
    quiet = np.zeros((2, 4 * RATE), np.float32)
    write_audio(folders / "clips" / "b.wav", quiet, RATE)
    assert luthier(folders, "--quiet") == 0
    assert luthier(folders, "--quiet", "--require-gates") == evaluate.GATE_EXIT


def test_against_an_earlier_evaluation(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = str(folders / "before.json")
    assert luthier(folders, "--quiet", "--out", before) == 0
    assert luthier(folders, "--baseline", before, "--require-gates") == 0
    assert "passed fad_against_baseline" in capsys.readouterr().out


def test_a_page_with_players(folders: Path) -> None:
    assert luthier(folders, "--quiet", "--html", str(folders / "page.html")) == 0
    page = (folders / "page.html").read_text()
    assert page.count("<audio") == 3  # two clips, one real track
    assert "Fréchet distance" in page
    assert "Gate: usable" in page
