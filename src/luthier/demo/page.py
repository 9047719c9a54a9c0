"""The demo's page: the pipeline with timings, players, measures, the loss curve, what to do
next.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.audio.decode import read_audio
from luthier.provenance import library_versions
from luthier.report.page import Command, ReportPage, Row, Table, write_report
from luthier.report.player import Clip, ClipGroup

if TYPE_CHECKING:
    from luthier.demo.run import Demo
    from luthier.music.evaluation.evaluate import Evaluation
    from luthier.music.spec import ModelSpec

_VOICES = (
    ("base", "Base", "mini as it ships, int8"),
    ("fp32", "Adapter", "base + LoRA, merged, ONNX fp32"),
    ("int8", "Adapter, int8", "the same, int8: what you would ship"),
)


def write_demo_report(
    demo: Demo,
    rounds: Sequence[tuple[Evaluation, Evaluation]],
    measures: dict[str, Any],
    spec: ModelSpec,
) -> Path:
    """Write `report.html` and return its path."""
    from luthier.demo.folder import REPORT_NAME

    path = demo.out / REPORT_NAME
    page = ReportPage(
        title="From recordings to an instrument",
        lead=(
            f"{measures['curated']} recordings, curated and learnt by {spec.name} in "
            f"{_minutes(demo)}: here is what it played before, and what it plays now."
        ),
        verdict=_verdict(measures, rounds),
        good=measures["improved_every_seed"],
        stages=tuple(demo.stages),
        groups=(_players(demo),),
        table=_table(rounds),
        loss=_losses(demo.out / "logs"),
        loss_note=f"LoRA on the denoiser, {demo.settings.train_steps} steps",
        commands=_commands(demo),
        provenance=_provenance(demo),
    )
    write_report(path, page)
    return path


def _verdict(measures: dict[str, Any], rounds: Sequence[tuple[Evaluation, Evaluation]]) -> str:
    """What the adapter gained, and what it paid for it."""
    wins = sum(row["adapter"] < row["base"] for row in measures["fad"])
    text = (
        f"With the adapter the music lies nearer to the held-out recordings in {wins} of "
        f"{len(measures['fad'])} seeds (Fréchet distance, {measures['embedding']})."
    )
    before, after = zip(*rounds, strict=True)
    for name in ("tempo", "key"):
        (passed, asked), (had, _) = _passed(after, name), _passed(before, name)
        if asked:
            text += f" It kept the {name} asked for in {passed} of {asked} clips; before, {had}."
    return text


def _minutes(demo: Demo) -> str:
    seconds = sum(stage.seconds or 0.0 for stage in demo.stages)
    return f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _players(demo: Demo) -> ClipGroup:
    from luthier.dataset.tracks import find_audio
    from luthier.demo.run import requests_of

    request = requests_of(demo)[0]
    held_out = sorted(find_audio(demo.out / "held-out").values())[0]
    real, rate = read_audio(held_out, channels=2)
    clips = [
        Clip("Held-out recording", held_out.stem, real[:, : int(demo.settings.clip_s * rate)], rate)
    ]
    for name, title, subtitle in _VOICES:
        audio, rate = read_audio(demo.out / "clips" / name / "seed-0" / "00.wav")
        clips.append(Clip(title, subtitle, audio, rate))
    asked = [f"{request['bpm']} bpm" if request["bpm"] else "", request["key"] or ""]
    # A caption may say them already.
    said = ", ".join([request["prompt"], *(a for a in asked if a and a not in request["prompt"])])
    note = f"Prompt: {said}. Seed {demo.settings.seed}, the same for all."
    return ClipGroup("One prompt, one seed", note, tuple(clips))


def _table(rounds: Sequence[tuple[Evaluation, Evaluation]]) -> Table:
    rows = [
        Row(
            f"Fréchet distance, seed {i + 1}",
            (base.fad.value, adapter.fad.value),
            better="lower",
            note="to the held-out recordings; lower is nearer",
        )
        for i, (base, adapter) in enumerate(rounds)
    ]
    sides = list(zip(*rounds, strict=True))
    rows.append(_shares("Tempo as asked", "within 4 %, half and double allowed", "tempo", sides))
    rows.append(_shares("Key as asked", "tonic and mode", "key", sides))
    loudness = tuple(
        statistics.median(known)
        if (known := [e.loudness_lufs for e in side if e.loudness_lufs])
        else None
        for side in sides
    )
    rows.append(Row("Loudness", loudness, unit="LUFS", digits=1))
    first = rounds[0][0].fad
    return Table(
        ("Base", "Adapter"),
        tuple(rows),
        note=(
            f"Embedding {first.embedding}: {first.n_reference} windows of held-out recordings, "
            f"{first.n_candidate} windows of generated music a seed. Both sides int8."
        ),
    )


def _shares(label: str, note: str, name: str, sides: Sequence[Sequence[Evaluation]]) -> Row:
    values: list[str | None] = []
    for passed, asked in (_passed(side, name) for side in sides):
        values.append(f"{passed} of {asked}" if asked else None)
    return Row(label, tuple(values), note=note)


def _passed(side: Sequence[Evaluation], name: str) -> tuple[int, int]:
    """Clips with the tempo or key that was asked for, and clips that were asked."""
    found = [a for e in side if (a := getattr(e, name)) is not None]
    return sum(a.passed for a in found), sum(len(a.checks) for a in found)


def _losses(logs: Path) -> tuple[tuple[int, float], ...]:
    from luthier.training.metrics import read_metrics
    from luthier.training.run_folder import METRICS_NAME

    rows = read_metrics(logs / METRICS_NAME)
    return tuple((row["step"], row["loss"]) for row in rows if "loss" in row)


def _commands(demo: Demo) -> tuple[Command, ...]:
    out = demo.out
    return (
        Command(
            f'luthier generate "lofi hip hop, rhodes, vinyl crackle" --model {out}/onnx '
            '--bpm 78 --key "A minor" --duration 20 --out mine.wav',
            "Play your model",
        ),
        Command(
            "luthier demo --input ~/my-recordings --out work/mine", "Do it with your recordings"
        ),
        Command(
            f"luthier train --dataset {out}/dataset --exp-name longer --max-steps 2000",
            "Train longer on the same data",
        ),
        Command(f"luthier trace {out}/onnx", "See where the model came from, down to the licences"),
    )


def _provenance(demo: Demo) -> tuple[tuple[str, str], ...]:
    versions = ", ".join(f"{name} {value}" for name, value in library_versions().items())
    return (
        ("machine", f"{platform.machine()}, {platform.system()}"),
        ("versions", versions),
        ("seed", str(demo.settings.seed)),
        ("records", "run.json in every folder; luthier trace reads them"),
    )
