"""The whole chain on the built-in model: recordings → adapter → proof → ONNX → sound, with a
report to open.

Every stage is the one that the commands use; this module only hands folders from one to the next.
`run_demo` leaves under its output folder: curated/, dataset/, logs/ (checkpoints), adapter/
(PEFT), merged/, onnx/, clips/, measures.json, report.html and run.json.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.demo.folder import BEGUN_NAME, MEASURES_NAME, REPORT_NAME, STAGE, check_demo_folder
from luthier.errors import PathError, TrainingError
from luthier.files import (
    existing_folder,
    free_place,
    make_folder,
    read_json,
    write_json,
    write_text,
)
from luthier.output_folder import RECORD_NAME, output_folder
from luthier.progress import SILENT, Display
from luthier.provenance import write_run
from luthier.report.page import Stage
from luthier.stopping import Stopped, under_way

if TYPE_CHECKING:
    from luthier.dataset.curate import CurateReport
    from luthier.music.evaluation.evaluate import Evaluation
    from luthier.music.playing.pipeline import MusicPipeline
    from luthier.training.config import TrainConfig

EXAMPLE_TRACKS = Path(__file__).parents[3] / "examples" / "tracks"
METADATA = ("sources.json", "style_mapping.json")


@dataclass(frozen=True)
class DemoSettings:
    """What the demo does. The defaults take minutes on two cores; `quick` is for tests.

    Attributes:
        input: the recordings; None takes the example tracks.
        output: gets everything, and may hold an earlier demo.
        seed: of the split, the training and the first clip.
        train_steps: optimiser steps.
        clip_s: length of a generated clip, seconds.
        prompts: how many of the held-out tracks' prompts are played.
        seeds: how many seeds a prompt is played with.
        tracks: use only the first so many recordings; None takes all.
    """

    input: Path | None = None
    output: Path = Path("work/demo")
    seed: int = 7
    train_steps: int = 200
    clip_s: float = 10.0
    prompts: int = 3
    seeds: int = 3
    tracks: int | None = None

    @classmethod
    def quick(cls, input: Path | None, output: Path, seed: int) -> DemoSettings:
        """A demo small enough for a test: everything runs, little is learnt."""
        return cls(input, output, seed, train_steps=20, clip_s=4.0, prompts=1, seeds=1, tracks=4)


@dataclass
class Demo:
    """One run in progress: the settings, the folders, what each stage took."""

    settings: DemoSettings
    display: Display = SILENT
    stages: list[Stage] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """The folder that gets everything."""
        return self.settings.output

    @contextmanager
    def stage(self, name: str, note: str = "") -> Iterator[None]:
        """Time a stage and announce it."""
        self.display.say(f"— {name}")
        started = time.perf_counter()
        with under_way(f"the stage {name}"):
            yield
        self.stages.append(Stage(name, time.perf_counter() - started, note))


@dataclass(frozen=True)
class DemoResult:
    """Where the demo's results are, and what it measured."""

    report: Path
    measures: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The result for programs."""
        return {"report": str(self.report), **self.measures}


def run_demo(settings: DemoSettings, display: Display = SILENT) -> DemoResult:
    """Run the whole chain.

    Raises:
        OutputError: the output folder holds what no demo made; nothing was touched.
        LuthierError: from any stage, in a sentence; what earlier stages made stays.
        Stopped: by a signal. No report tells of what is not done; a training that has begun goes on
            where it was when the same demo is run again.
    """
    from luthier.demo.page import write_demo_report
    from luthier.models import BUILT_IN, torch_model

    demo = Demo(settings, display)
    source = recordings_of(settings)
    check_demo_folder(demo.out, source)
    make_folder(demo.out)
    config = {k: str(v) for k, v in vars(settings).items()}
    # At once, so that a demo that is stopped knows the folder for its own.
    write_text(demo.out / BEGUN_NAME, "")
    for name in (REPORT_NAME, MEASURES_NAME, RECORD_NAME):
        (demo.out / name).unlink(missing_ok=True)  # an earlier demo's tell of nothing that follows
    base = torch_model(BUILT_IN)
    with demo.stage("curate"):
        curated = _curate(demo, source)
    with demo.stage("data set"):
        _dataset(demo, source, curated)
    with demo.stage("train", f"{settings.train_steps} steps"):
        adapter = _train(demo, base)
    with demo.stage("merge"):
        merge_error = _merge(demo, base, adapter)
    with demo.stage("export", "fp32 and int8"):
        sizes = _export(demo)
    with demo.stage("play"):
        pipelines = _play(demo)
    with demo.stage("evaluate"):
        rounds = _evaluate(demo)
    measures = _measures(demo, rounds, merge_error, sizes)
    write_json(demo.out / MEASURES_NAME, measures)
    report = write_demo_report(demo, rounds, measures, pipelines["base"].spec)
    write_run(
        demo.out,
        stage=STAGE,
        inputs=[demo.out / "dataset", demo.out / "adapter", demo.out / "onnx"],
        config=config,
        seeds={"demo": settings.seed},
    )
    (demo.out / BEGUN_NAME).unlink()
    return DemoResult(report, measures)


@contextmanager
def _part(demo: Demo, name: str) -> Iterator[Path]:
    """A sub-folder that no other stage makes: it appears as a whole, with a mark of its own."""
    with output_folder(demo.out / name, STAGE) as folder:
        yield folder
        write_run(folder, stage=STAGE, name=name)


def recordings_of(settings: DemoSettings) -> Path:
    """The folder that is curated; `PathError` where it is missing."""
    if settings.input is not None:
        return existing_folder(settings.input, "folder of recordings")
    if not EXAMPLE_TRACKS.is_dir():
        raise PathError(
            "the example tracks are not here: they come with the source, not with the wheel. "
            "Name a folder of recordings with --input."
        )
    return EXAMPLE_TRACKS


def _curate(demo: Demo, source: Path) -> CurateReport:
    from luthier.dataset.curate import CurateSettings, curate
    from luthier.dataset.tracks import walk_audio

    target = demo.out / "curated"
    if demo.settings.tracks is not None:
        chosen = sorted(walk_audio(source))[: demo.settings.tracks]
        source = demo.out / "recordings"
        with _part(demo, source.name) as folder:
            for path in chosen:
                shutil.copy(path, free_place(folder / path.name))
    settings = CurateSettings(target_format="flac", min_duration=12)
    report = curate(source, target, settings, demo.display, workers=2, sole_input=True)
    if not report.count("success"):
        reasons = "; ".join(f"{Path(r.source).name}: {r.reason}" for r in report.results[:5])
        raise PathError(f"no recording in {source} can be used: {reasons}")
    return report


def _dataset(demo: Demo, source: Path, curated: CurateReport) -> None:
    from luthier.dataset.tracks import find_audio
    from luthier.music.dataset.build import BuildSettings, build_dataset
    from luthier.music.dataset.prompts import load_mapping, write_prompts
    from luthier.music.dataset.styles import load_presets

    audio = demo.out / "curated"
    metadata = demo.out / "metadata"
    with _part(demo, metadata.name) as folder:
        for name in METADATA:
            if (source / name).is_file():
                shutil.copy(source / name, folder / name)
        if not (folder / "sources.json").is_file():
            _declare_own(folder, audio, demo.display)
        mapping_path = folder / "style_mapping.json"
        mapping = load_mapping(mapping_path) if mapping_path.is_file() else None
        if mapping is not None and demo.settings.tracks is not None:
            kept = find_audio(audio)
            mapping = {name: styles for name, styles in mapping.items() if name in kept}
            write_json(mapping_path, mapping)
    write_prompts(audio, mapping, load_presets(), display=demo.display)
    build_dataset(
        audio,
        metadata,
        demo.out / "dataset",
        BuildSettings(validation_split=0.25, repeat_count=1, seed=demo.settings.seed),
    )


def _declare_own(metadata: Path, audio: Path, display: Display) -> None:
    """Recordings without records are taken as the user's own, and the user is told so."""
    from luthier.dataset.tracks import find_audio

    display.say(
        "  no sources.json: by running the demo on these recordings you say that you may train on "
        "them; that is written into the data set's records."
    )
    record = {
        "source_id": "own-recordings",
        "track_ids": sorted(find_audio(audio)),
        "source_type": "commissioned",
        "provider": "the user of this machine",
        "license_type": "own recordings, by the user's declaration",
        "date_acquired": date.today().isoformat(),
        "cost": 0,
        "ai_training_allowed": True,
        "evidence": "declared by running `luthier demo --input`",
    }
    write_json(metadata / "sources.json", [record])


def _train(demo: Demo, base: Path) -> Path:
    from luthier.training.config import TrainConfig
    from luthier.training.run import train
    from luthier.training.run_folder import CHECKPOINTS, remove_run
    from luthier.training.run_folder import STAGE as TRAIN

    steps = demo.settings.train_steps
    config = TrainConfig(
        max_steps=steps,
        # A few minutes are short: a high rate on all layers, measured on the example tracks.
        learning_rate=3e-3,
        train_mlp=True,
        save_every=max(10, steps // 4),
        seed=demo.settings.seed,
        samples=0,  # the evaluation that follows plays base and adapter
    )
    logs = demo.out / "logs"
    goes_on = _is_unfinished(demo, logs / CHECKPOINTS, config)
    if not goes_on:
        remove_run(logs)
    result = train(base, demo.out / "dataset", logs, config, display=demo.display, resume=goes_on)
    if result.stopped_by:
        raise Stopped(result.stopped_by, f"the stage train, after {result.step} of {steps} steps")
    adapter = demo.out / "adapter"
    with output_folder(adapter, TRAIN) as folder:
        shutil.copytree(result.checkpoint, folder, dirs_exist_ok=True)
    return adapter


def _is_unfinished(demo: Demo, checkpoints: Path, config: TrainConfig) -> bool:
    """Whether the same training, on the same data, was stopped before its last step."""
    from luthier.music.dataset.build import load_manifest
    from luthier.training.checkpoint import newest_valid

    try:
        start = newest_valid(checkpoints, demo.display)
    except TrainingError:  # none is whole
        return False
    if start is None:
        return False
    state = start.state
    return (
        state.step < config.max_steps
        and state.config == config.model_dump(mode="json")
        and state.origin.dataset_hash == load_manifest(demo.out / "dataset")["hash"]
    )


def _merge(demo: Demo, base: Path, adapter: Path) -> float:
    from luthier.training.merge import merge
    from luthier.training.merge_adapters import Weighted

    adapters, out = [Weighted(adapter)], demo.out / "merged"
    report = merge(base, adapters, out, storage="exact", verify=True, overwrite=True)
    assert report.check is not None  # verify was asked for
    return report.check.max_abs_difference


def _export(demo: Demo) -> dict[str, int]:
    from luthier.music.export.export import export_model

    sizes = {}
    for precision, name in (("fp32", "onnx-fp32"), ("int8", "onnx")):
        report = export_model(
            demo.out / "merged",
            demo.out / name,
            precision=precision,  # type: ignore[arg-type]
            verify=precision == "fp32",
            display=demo.display,
        )
        sizes[precision] = report.size_bytes
    return sizes


def requests_of(demo: Demo) -> list[dict[str, Any]]:
    """What is played: prompts of held-out tracks, each with its own tempo and key."""
    from luthier.music.dataset.build import load_rows

    rows = load_rows(demo.out / "dataset", "validation")
    return [
        {
            "prompt": row["caption"],
            "bpm": round(row["bpm"]) if row["bpm"] else None,
            "key": row["keyscale"] or None,
            "time_signature": row["timesignature"] or None,
            "duration": demo.settings.clip_s,
        }
        for row in rows[: demo.settings.prompts]
    ]


def _play(demo: Demo) -> dict[str, MusicPipeline]:
    """Play every prompt and seed with the base and with the merged int8 model; the first in fp32
    too.
    """
    from luthier.audio.encode import write_audio
    from luthier.models import BUILT_IN, playable_model
    from luthier.music.playing.pipeline import MusicPipeline
    from luthier.music.request import request_from

    base = playable_model(BUILT_IN).folder
    folders = {"base": base, "int8": demo.out / "onnx", "fp32": demo.out / "onnx-fp32"}
    pipelines = {name: MusicPipeline(folder) for name, folder in folders.items()}
    requests = requests_of(demo)
    plays = [
        (name, seed, index)
        for name in pipelines
        for seed in range(demo.settings.seeds)
        for index in range(len(requests))
        if name != "fp32" or (seed == 0 and index == 0)
    ]
    with _part(demo, "clips") as clips, demo.display.task("play", len(plays)) as task:
        for name, seed, index in plays:
            asked = request_from({**_given(requests[index]), "seed": demo.settings.seed + seed})
            made = pipelines[name].generate(asked)
            path = clips / name / f"seed-{seed}" / f"{index:02d}.wav"
            write_audio(path, made.audio, made.sample_rate)
            task.advance(note=f"{name} {index}")
    return pipelines


def _given(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if value is not None}


def _evaluate(demo: Demo) -> list[tuple[Evaluation, Evaluation]]:
    """Base and adapter (both int8) against the held-out tracks, once a seed."""
    from luthier.music.dataset.build import load_rows
    from luthier.music.evaluation.evaluate import evaluate_folder

    held_out = demo.out / "held-out"
    with _part(demo, held_out.name) as folder:
        for row in load_rows(demo.out / "dataset", "validation"):
            shutil.copy(row["filename"], folder / Path(row["filename"]).name)
    asked = [
        {"file": f"{index:02d}.wav", "bpm": r["bpm"], "key": r["key"]}
        for index, r in enumerate(requests_of(demo))
    ]
    rounds = []
    for seed in range(demo.settings.seeds):
        pair = [
            evaluate_folder(
                demo.out / "clips" / name / f"seed-{seed}",
                held_out,
                requests=asked,
                checkpoint=name,
            )
            for name in ("base", "int8")
        ]
        rounds.append((pair[0], pair[1]))
    return rounds


def _measures(
    demo: Demo,
    rounds: Sequence[tuple[Evaluation, Evaluation]],
    merge_error: float,
    sizes: dict[str, int],
) -> dict[str, Any]:
    first = rounds[0][0].fad
    return {
        "embedding": first.embedding,
        "n_reference": first.n_reference,
        "n_candidate": first.n_candidate,
        "fad": [
            {"seed": demo.settings.seed + i, "base": base.fad.value, "adapter": adapter.fad.value}
            for i, (base, adapter) in enumerate(rounds)
        ],
        "improved_every_seed": all(a.fad.value < b.fad.value for b, a in rounds),
        "merge_max_difference": merge_error,
        "onnx_bytes": sizes,
        "stages_s": {s.name: round(s.seconds or 0.0, 1) for s in demo.stages},
        "curated": read_json(demo.out / "curated" / "curation.json")["processed"],
    }
