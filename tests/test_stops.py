"""Every command, stopped in every stage: in time, with a sentence, with nothing that lies."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from band import RATE, play
from ctrl_c import heed_ctrl_c
from luthier.audio.encode import write_audio
from luthier.cli.main import main
from luthier.files import read_json
from luthier.training.metrics import read_metrics
from prepared import prepare
from stops import LIMIT_S, environment, living, stopped, temporaries
from tiny_checkpoints import checkpoint, tiny_run, validation_set

ROOT = Path(__file__).parents[1]
SIGNALS = ("SIGTERM", "SIGINT")
SMALL = ["--batch-size", "2", "--crop-s", "1", "--no-tensorboard"]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for index in range(6):
        audio = play(80 + index, "A minor", 14.0, seed=index)
        write_audio(folder / f"take {index}.wav", audio, RATE)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(2):
        noise = np.random.default_rng(seed).normal(scale=0.1, size=(2, 4 * 24_000))
        write_audio(folder / f"{seed}.wav", noise.astype(np.float32), 24_000)
    return folder


# --- the demo ---------------------------------------------------------------------------------

DEMO = {
    "curate": "luthier.demo.run:_curate",
    "data set": "luthier.demo.run:_dataset",
    "train": "luthier.training.trainer:Trainer._train_step",
    "merge": "luthier.demo.run:_merge",
    "export": "luthier.demo.run:_export",
    "play": "luthier.demo.run:_play",
    "evaluate": "luthier.demo.run:_evaluate",
}


def slow_but(*quick: str) -> list[object]:
    return [pytest.param(stage, marks=() if stage in quick else pytest.mark.slow) for stage in DEMO]


def assert_demo_tells_the_truth(out: Path) -> None:
    for name in ("report.html", "measures.json", "run.json"):
        assert not (out / name).exists(), name
    assert temporaries(out) == []


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
@pytest.mark.parametrize("stage", slow_but("train"))
def test_the_demo_stops_in_every_stage(
    recordings: Path, tmp_path: Path, stage: str, name: str
) -> None:
    out = tmp_path / "demo"
    words = ["demo", "--quick", "--input", str(recordings), "--out", str(out)]
    nth = 3 if stage == "train" else 1
    delay_s = 0.0 if stage in ("merge", "data set", "evaluate") else 0.2  # they are short
    stop = stopped(tmp_path / "tmp", DEMO[stage], name, words, nth=nth, delay_s=delay_s)
    assert f"in the stage {stage}" in stop.sentence
    assert stop.way_on == ["luthier", *words]
    assert_demo_tells_the_truth(out)
    later = ("curated", "dataset", "logs", "merged", "onnx", "clips", "held-out")
    made = list(DEMO).index(stage)
    assert not any((out / folder).exists() for folder in later[made + 1 :])
    if stage == "train":
        step = len(read_metrics(out / "logs" / "metrics.jsonl"))
        assert 3 <= step < 20
        assert f"after {step} of 20 steps" in stop.sentence
        assert not (out / "adapter").exists()
        assert "— merge" not in stop.errors


@pytest.mark.slow
def test_a_demo_that_was_stopped_goes_on_and_the_next_one_begins_anew(
    recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    words = ["demo", "--quick", "--input", str(recordings), "--out", str(out)]
    assert main([*words, "--quiet"]) == 0
    whole = read_metrics(out / "logs" / "metrics.jsonl")
    stop = stopped(tmp_path / "tmp", DEMO["train"], "SIGTERM", words, nth=15)
    assert_demo_gone_but_marked(out)
    stopped_at = len(read_metrics(out / "logs" / "metrics.jsonl"))
    assert 15 <= stopped_at < 20
    assert stop.way_on == ["luthier", *words]
    assert main(stop.way_on[1:]) == 0
    resumed = read_metrics(out / "logs" / "metrics.jsonl")
    assert [row["loss"] for row in resumed] == [row["loss"] for row in whole]
    assert [row["seconds"] for row in resumed[stopped_at:]] != []
    assert (out / "report.html").is_file()


def assert_demo_gone_but_marked(out: Path) -> None:
    """The first demo's results are not told as the second's."""
    assert not (out / "report.html").exists()
    assert not (out / "measures.json").exists()


# --- training ---------------------------------------------------------------------------------

TRAIN = {
    "encode": ("luthier.training.run:cache_features", 1, 0.0),
    "base samples": ("luthier.music.training.previews:Player.play", 1, 0.0),
    "step": ("luthier.training.trainer:Trainer._train_step", 4, 0.0),
    "save": ("luthier.training.trainer:save_checkpoint", 2, 0.0),
    "samples": ("luthier.music.training.previews:Player.play", 2, 0.0),
}


def train_words(logs: Path, steps: int, *more: str) -> list[str]:
    run = tiny_run()
    words = ["train", "--dataset", str(run / "dataset" / "set"), "--exp-name", "calm", "--model"]
    words += [str(run / "model"), "--logs-dir", str(logs), "--max-steps", str(steps)]
    return [*words, "--save-every", "2", *SMALL, *more]


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "stage",
    [pytest.param(s, marks=() if s == "samples" else pytest.mark.slow) for s in TRAIN],
)
def test_training_stops_in_every_stage(tmp_path: Path, stage: str, name: str) -> None:
    logs = tmp_path / "logs"
    samples = "1" if "samples" in stage else "0"
    place, nth, delay_s = TRAIN[stage]
    words = train_words(logs, 100_000, "--samples", samples)
    stop = stopped(tmp_path / "tmp", place, name, words, nth=nth, delay_s=delay_s)
    assert temporaries(logs) == []
    began = stage not in ("encode", "base samples")
    assert ("--resume" in stop.way_on) == began
    assert stop.way_on[:-1] == ["luthier", *words][: None if began else -1]
    if began:
        rows = read_metrics(logs / "calm" / "metrics.jsonl")
        saved = sorted((logs / "calm" / "checkpoints").iterdir())[-1]
        assert read_json(saved / "state.json")["step"] == rows[-1]["step"] < 100
        page = (logs / "calm" / "report.html").read_text()
        assert f"stopped: step {rows[-1]['step']} of 100000" in page


def test_training_goes_on_as_it_says_and_ends_the_same(tmp_path: Path) -> None:
    place = TRAIN["step"][0]
    words = train_words(tmp_path / "logs", 6, "--samples", "0", "--seed", "5", "--quiet")
    stop = stopped(tmp_path / "tmp", place, "SIGTERM", words, nth=3, delay_s=0.0)
    assert "stopped at step" in stop.sentence
    assert main(stop.way_on[1:]) == 0
    assert main([w.replace(str(tmp_path / "logs"), str(tmp_path / "whole")) for w in words]) == 0
    told = [
        [row["loss"] for row in read_metrics(tmp_path / logs / "calm" / "metrics.jsonl")]
        for logs in ("logs", "whole")
    ]
    assert told[0] == told[1]
    last = [
        (tmp_path / logs / "calm/checkpoints/epoch=2-step=6_lora/adapter_model.safetensors")
        for logs in ("logs", "whole")
    ]
    assert last[0].read_bytes() == last[1].read_bytes()


@pytest.mark.slow
def test_the_way_on_keeps_flags_and_drops_another_start(tmp_path: Path) -> None:
    words = train_words(tmp_path, 4, "--samples", "0", "--quiet")
    assert main(words) == 0
    more = [*words[:-1], "--resume-from", "2", "--max-steps", "100000"]
    stop = stopped(tmp_path / "tmp", TRAIN["step"][0], "SIGTERM", more, delay_s=0.0)
    assert stop.way_on == ["luthier", *words[:-1], "--max-steps", "100000", "--resume"]


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_the_shell_script_passes_the_signal_on(tmp_path: Path, name: str) -> None:
    script = ROOT / "scripts" / "run_training.sh"
    logs = tmp_path / "logs"
    flags = {"seed": 3, "batch_size": 2, "crop_s": 1.0, "samples": 0, "tensorboard": False}
    (tmp_path / "config.json").write_text(json.dumps(flags))
    run, mark = tiny_run(), uuid.uuid4().hex
    words = ["--dataset", str(run / "dataset" / "set"), "--exp-name", "calm", "--checkpoint-dir"]
    words += [str(run / "model"), "--config", str(tmp_path / "config.json")]
    process = subprocess.Popen(
        [str(script), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path / "tmp", mark)
        | {"LOFI_CHECKPOINT_DIR": str(logs), "PATH": python_first(tmp_path)},
        preexec_fn=heed_ctrl_c,
    )
    wait_for(lambda: read_metrics(logs / "calm" / "metrics.jsonl"), process)
    at = time.monotonic()
    process.send_signal(signal.Signals[name])
    out, errors = process.communicate(timeout=30)
    assert time.monotonic() - at < LIMIT_S
    assert process.returncode == 128 + signal.Signals[name], errors
    assert f"  {shlex.join([str(script), *words, '--resume'])}" in out + errors
    assert not living(mark)


def python_first(tmp_path: Path) -> str:
    """A search path on which `python3` is this one, where the script has no environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to(sys.executable)
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def wait_for(there: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None and not there():
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("count", [1, 2])
def test_processes_of_accelerate_save_and_leave(tmp_path: Path, count: int, name: str) -> None:
    """One process, which the launcher tells nothing, or two, which agree on the last step."""
    mark, logs = uuid.uuid4().hex, tmp_path / "logs"
    words = train_words(logs, 100_000, "--samples", "0", "--device", "cpu")
    launch = ["-m", "accelerate.commands.launch", "--num_processes", str(count)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--multi_gpu", "--main_process_port", str(free_port())] if count > 1 else ["--cpu"]
    process = subprocess.Popen(
        [sys.executable, *launch, "-m", "luthier", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path / "tmp", mark),
        preexec_fn=heed_ctrl_c,
    )
    wait_for(lambda: read_metrics(logs / "calm" / "metrics.jsonl"), process)
    at = time.monotonic()
    process.send_signal(signal.Signals[name])
    out, errors = process.communicate(timeout=60)
    assert time.monotonic() - at < LIMIT_S
    assert process.returncode != 0
    start = "accelerate launch --num_processes 2 -m luthier" if count > 1 else "go on with  luthier"
    assert f"{start} train" in out + errors
    assert not living(mark)
    rows = read_metrics(logs / "calm" / "metrics.jsonl")
    saved = [read_json(p / "state.json") for p in (logs / "calm" / "checkpoints").iterdir()]
    assert max(state["step"] for state in saved) == rows[-1]["step"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


# --- curation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "name"),
    [
        ("2", "SIGTERM"),
        pytest.param("1", "SIGTERM", marks=pytest.mark.slow),
        pytest.param("1", "SIGINT", marks=pytest.mark.slow),
        pytest.param("2", "SIGINT", marks=pytest.mark.slow),
    ],
)
def test_curation_goes_on_as_it_says_and_ends_the_same(
    recordings: Path, tmp_path: Path, workers: str, name: str
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    flags = ["--min-duration", "5", "--target-format", "flac", "--workers", workers]
    words = ["curate", str(recordings), "--out", str(out), *flags]
    place = "luthier.dataset.curation_log:Ledger.add"  # a file is done
    stop = stopped(tmp_path / "tmp", place, name, words, nth=2, delay_s=0.0)
    assert f"what is finished stays in {out}" in stop.sentence
    assert temporaries(out) == []
    told = read_json(out / "curation.json")
    audio = sorted(path.stem for path in out.glob("*.flac"))
    assert 2 <= told["processed"] == len(audio) < 6
    assert not (out / "run.json").exists()
    assert main(stop.way_on[1:]) == 0
    assert sum(row["unchanged"] for row in read_json(out / "curation.json")["results"]) == len(
        audio
    )
    assert main([w.replace(str(out), str(whole)) for w in words] + ["--quiet"]) == 0
    for path in whole.glob("*.flac"):
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_workers_in_a_long_file_are_not_waited_for(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    audio = np.tile(play(80, "A minor", 14.0, seed=1), 90)  # minutes of work for one core
    write_audio(source / "long.flac", audio, RATE)
    shutil.copy(source / "long.flac", source / "again.flac")
    words = ["curate", str(source), "--out", str(out), "--workers", "2", "--max-duration", "9999"]
    place = "luthier.dataset.local_pool:wait"
    started = time.monotonic()
    stopped(tmp_path / "tmp", place, "SIGTERM", words, delay_s=3.0)
    assert time.monotonic() - started < 3.0 + LIMIT_S + 4.0  # and what Python takes to start
    assert temporaries(out) == []
    assert list(out.glob("*.mp3")) == []


# --- evaluation, export and the rest ----------------------------------------------------------


def test_evaluation_goes_on_as_it_says_and_ends_the_same(tmp_path: Path) -> None:
    cache = {"LUTHIER_CACHE_DIR": str(tmp_path / "cache")}
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("calm piano\nslow bass\nsoft drums\n")
    base = ["evaluate", str(checkpoint(2)), "--reference", str(validation_set())]
    base += ["--prompts-file", str(prompts), "--sample-duration", "2", "--sample-steps", "2"]
    words = [*base, "--generate-samples", "--sample-output-dir", str(tmp_path / "clips")]
    words += ["--out", str(tmp_path / "e.json")]
    os.environ.update(cache)
    try:
        place = "luthier.music.playing.pipeline:MusicPipeline.generate"
        stop = stopped(tmp_path / "tmp", place, "SIGTERM", words, nth=2, delay_s=0.0)
        assert "clips that were played and measures of real tracks are kept" in stop.sentence
        assert not (tmp_path / "e.json").exists()
        assert temporaries(tmp_path) == []
        kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "clips").glob("*.wav")}
        assert len(kept) == 1
        assert main(stop.way_on[1:]) == 0
    finally:
        for variable in cache:
            del os.environ[variable]
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    told = read_json(tmp_path / "e.json")
    again = [w.replace(str(tmp_path), str(tmp_path / "whole")) for w in words]
    again[again.index("--prompts-file") + 1] = str(prompts)
    (tmp_path / "whole").mkdir()
    assert main([*again, "--quiet"]) == 0
    assert read_json(tmp_path / "whole" / "e.json")["fad_score"] == told["fad_score"]


def rest(tmp_path: Path, clips: Path) -> dict[str, tuple[str, int, float, list[str]]]:
    """Name → place, call, delay and words of commands that write their result whole."""
    model, out = str(tiny_run() / "model"), str(tmp_path / "out")
    data = prepare(tmp_path)
    export = ["export", model, "--out", out]
    merge = ["merge", "--base-model", model, "--adapter", str(checkpoint(1)), "--output-dir", out]
    clip = ["evaluate", str(clips), "--reference", str(clips), "--out", out, "--no-cache"]
    played = ["evaluate", str(checkpoint(1)), "--reference", str(validation_set()), "--out", out]
    return {
        "export graphs": ("luthier.music.export.export:_write_one", 2, 0.0, export),
        "export trace": ("torch.onnx:export", 3, 0.0, export),
        "export verify": ("luthier.music.export.export:compare", 2, 0.0, [*export, "--verify"]),
        "export quality": (
            *("luthier.music.export.export:measure_quality", 1, 0.1),
            [*export, "--verify", "--precision", "int8"],
        ),
        "export finish": ("luthier.music.export.export:_finish", 1, 0.0, export),
        "merge": ("luthier.training.merge:write_tensors", 1, 0.0, merge),
        "merge verify": (
            "luthier.music.training.merge_check:put_in",
            1,
            0.0,
            [*merge, "--verify"],
        ),
        "evaluate clips": ("luthier.music.evaluation.evaluate:listen_to_real", 1, 0.0, clip),
        "evaluate played": (
            "luthier.music.playing.pipeline:MusicPipeline.generate",
            2,
            0.0,
            played,
        ),
        "dataset": (
            *("luthier.music.dataset.build:write_json", 1, 0.0),
            ["dataset", "build", str(data), "--metadata", str(tmp_path / "meta"), "--out", out],
        ),
        "prompts": (
            *("luthier.music.dataset.prompts:write_track", 2, 0.0),
            ["prompts", str(data)],
        ),
        "generate": (
            *("luthier.music.playing.pipeline:MusicPipeline.generate_batch", 1, 0.5),
            ["generate", "calm", "--duration", "60", "--steps", "200", "--out", f"{out}.wav"],
        ),
        "matrix": (
            *("luthier.matrix.run:Explorer.explore", 1, 2.0),
            ["matrix", "--out", out, "--duration", "60", "--steps", "200"],
        ),
    }


REST = [
    *("export graphs", "export trace", "export verify", "export quality", "export finish"),
    *("merge", "merge verify", "evaluate clips", "evaluate played", "dataset", "prompts"),
    *("generate", "matrix"),
]
QUICK = ("export graphs", "generate")


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in REST]
)
def test_what_writes_its_result_whole_leaves_none(
    tmp_path: Path, clips: Path, case: str, name: str
) -> None:
    place, nth, delay_s, words = rest(tmp_path, clips)[case]
    stop = stopped(tmp_path / "tmp", place, name, words, nth=nth, delay_s=delay_s)
    assert stop.way_on == ["luthier", *words]
    assert temporaries(tmp_path) == []
    if case == "matrix":  # which is made cell by cell, and says how many there are
        assert list((tmp_path / "out" / "cells").iterdir()) == []
    else:
        assert not [p for p in tmp_path.iterdir() if p.name.startswith("out")]


SCRIPTS = {
    "export_onnx": (
        "luthier.music.export.export:_write_one",
        ["--model", "MODEL", "--output", "OUT", "--precision", "fp16"],
    ),
    "merge_lora": (
        "luthier.training.merge:write_tensors",
        ["--base-model", "MODEL", "--lora-checkpoint", "LORA", "--output-dir", "OUT"],
    ),
    "validate_checkpoint": (
        "luthier.music.evaluation.evaluate:listen_to_real",
        ["--checkpoint", "CLIPS", "--validation-set", "CLIPS", "--no-cache"],
    ),
    "lofi_audio_processor": (
        "luthier.dataset.local_pool:wait",
        ["process", "--input-dir", "CLIPS", "--output-dir", "OUT"],
    ),
    "convert_dataset": (
        "luthier.music.dataset.build:write_json",
        ["--data-dir", "DATA", "--metadata-dir", "META", "--output-dir", "OUT"],
    ),
    "lofi_prompt_generator": (
        "luthier.music.dataset.prompts:write_track",
        ["generate", "--audio-dir", "DATA", "--style-mapping", "META/style_mapping.json"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_stop_as_the_commands_do(
    tmp_path: Path, clips: Path, script: str, name: str
) -> None:
    place, words = SCRIPTS[script]
    data = prepare(tmp_path)
    real = {"MODEL": tiny_run() / "model", "OUT": tmp_path / "out", "LORA": checkpoint(1)}
    real |= {"CLIPS": clips, "DATA": data, "META": tmp_path / "meta"}
    for key, path in real.items():
        words = [w.replace(key, str(path)) if w.startswith(key) else w for w in words]
    stop = stopped(tmp_path / "tmp", place, name, words, delay_s=0.0, program=script)
    assert stop.sentence.startswith(f"{script}.py: stopped by ")
    assert stop.sentence.endswith(f"{script}.py {shlex.join(words)}")
    assert temporaries(tmp_path) == []
    assert list((tmp_path / "out").glob("*.mp3")) == []
    if script not in ("lofi_audio_processor", "lofi_prompt_generator"):
        assert not (tmp_path / "out").exists()
