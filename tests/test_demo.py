"""The whole chain, small, on the built-in model: what it leaves, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.cli.main import main
from luthier.dataset.tracks import find_audio
from luthier.demo.run import EXAMPLE_TRACKS, Demo, DemoSettings, requests_of


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", "--quick", "--quiet", "--out", str(out)]) == 0
    return out


def test_leaves_everything_that_the_chain_makes(quick: Path) -> None:
    for name in (
        "report.html",
        "measures.json",
        "run.json",
        "curated/curation.json",
        "dataset/dataset_manifest.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "merged/manifest.json",
        "onnx/manifest.json",
        "onnx/dit_decoder.onnx",
        "clips/base/seed-0/00.wav",
        "clips/int8/seed-0/00.wav",
        "clips/fp32/seed-0/00.wav",
    ):
        assert (quick / name).is_file(), name


def test_measures_say_embedding_and_n_and_the_merge_is_exact(quick: Path) -> None:
    measures = json.loads((quick / "measures.json").read_text())
    assert measures["embedding"]
    assert measures["n_reference"] > 10
    assert measures["n_candidate"] > 1
    assert measures["merge_max_difference"] <= 1e-5
    assert all(row["base"] > 0 and row["adapter"] > 0 for row in measures["fad"])


def test_report_is_self_contained(quick: Path) -> None:
    page = (quick / "report.html").read_text()
    assert page.count("data:audio/mpeg") >= 4
    assert not re.search(r'(src|href)="https?://', page)
    assert "luthier generate" in page
    # The verdict says what was paid for nearness, too.
    assert re.search(r"kept the tempo asked for in \d of \d clips; before, \d", page)


def test_trace_leads_from_the_graphs_to_the_licences(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(quick / "onnx"), "--json"]) == 0
    assert "CC0-1.0" in capsys.readouterr().out


def test_the_model_it_made_plays(quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.wav"
    words = ["generate", "lofi hip hop", "--model", str(quick / "onnx"), "--duration", "3"]
    assert main([*words, "--seed", "1", "--quiet", "--out", str(out)]) == 0
    assert out.stat().st_size > 100_000


def test_own_recordings_need_no_metadata(tmp_path: Path) -> None:
    recordings = tmp_path / "mine"
    for index, bpm in enumerate((80, 90, 100)):
        audio = play(bpm, "A minor", 14.0, seed=index)
        write_audio(recordings / f"take {index}.wav", audio, RATE)
    out = tmp_path / "demo"
    words = ["demo", "--quick", "--quiet", "--input", str(recordings), "--out", str(out)]
    assert main(words) == 0
    record = json.loads((out / "metadata" / "sources.json").read_text())[0]
    assert record["ai_training_allowed"] is True
    assert "declar" in record["license_type"]


PARTS = [
    *("curated", "dataset", "dataset/train", "logs", "logs/samples", "adapter", "recordings"),
    *("metadata", "merged", "onnx", "onnx-fp32", "clips/base", "held-out"),
]


@pytest.mark.parametrize("part", PARTS)
def test_a_recording_in_a_part_is_named_and_stays(
    quick: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--quick", "--quiet", "--dry-run", "--out", str(quick)]) == 0
    theirs = quick / part / "take 7.flac"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_bytes(b"a recording")
    assert main(["demo", "--quick", "--quiet", "--out", str(quick)]) == 2
    assert "take 7.flac" in capsys.readouterr().err
    assert theirs.read_bytes() == b"a recording"
    theirs.unlink()
    if not any(theirs.parent.iterdir()):
        theirs.parent.rmdir()


@pytest.mark.slow
def test_a_second_demo_takes_the_place_of_the_first(quick: Path, tmp_path: Path) -> None:
    (quick / "mine.wav").write_bytes(b"a recording")
    for index, bpm in enumerate((80, 90, 100)):
        audio = play(bpm, "A minor", 14.0, seed=index)
        write_audio(tmp_path / "in" / f"take {index}.wav", audio, RATE)
    words = ["demo", "--quick", "--quiet", "--out", str(quick)]
    assert main([*words, "--input", str(tmp_path / "in")]) == 0
    assert sorted(find_audio(quick / "curated")) == ["take 0", "take 1", "take 2"]
    assert len(find_audio(quick / "curated" / "rejected")) == 4
    assert main(words) == 0
    assert len(find_audio(quick / "curated")) == 4
    assert (quick / "mine.wav").read_bytes() == b"a recording"


@pytest.mark.parametrize("kind", ["missing", "empty", "text"])
def test_bad_input_is_a_sentence(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    if kind != "missing":
        folder.mkdir()
    if kind == "text":
        (folder / "song.mp3").write_text("this is no music")
    code = main(
        ["demo", "--quick", "--quiet", "--input", str(folder), "--out", str(tmp_path / "o")]
    )
    assert code == 1
    message = capsys.readouterr().err
    assert message.startswith("luthier: ")
    assert message.count("\n") == 1
    assert not (tmp_path / "o" / "report.html").exists()


def test_dry_run_touches_nothing(tmp_path: Path) -> None:
    assert main(["demo", "--dry-run", "--quiet", "--out", str(tmp_path / "o")]) == 0
    assert not (tmp_path / "o").exists()


def test_example_tracks_are_complete() -> None:
    tracks = sorted(EXAMPLE_TRACKS.glob("*.mp3"))
    assert 10 <= len(tracks) <= 12
    assert all(path.stat().st_size <= 400_000 for path in tracks)
    names = {path.stem for path in tracks}
    sources = json.loads((EXAMPLE_TRACKS / "sources.json").read_text())
    assert {t for record in sources for t in record["track_ids"]} == names
    assert set(json.loads((EXAMPLE_TRACKS / "style_mapping.json").read_text())) == names


def test_prompts_are_those_of_held_out_tracks(quick: Path) -> None:
    demo = Demo(DemoSettings(output=quick))
    for request in requests_of(demo):
        assert request["prompt"]
        assert request["duration"] == demo.settings.clip_s
