"""Every verb and script that writes, as rows: how it is called, and what it says of a bad place.

The inputs are small stand-ins: a refusal comes before anything of them is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from luthier.audio.encode import write_audio
from luthier.cli.main import main as luthier
from luthier.cli.scripts import (
    convert_dataset,
    export_onnx,
    lofi_audio_processor,
    lofi_prompt_generator,
    merge_lora,
    run_training,
    validate_checkpoint,
)

Main = Callable[[list[str]], int]
Words = Callable[[Path, Path], list[object]]

# What writes nothing, or (serve) into a home that has rules and tests of its own.
READ_ONLY = {"inspect", "plan", "trace", "serve", "mcp"}
SCRIPTS = {
    "lofi_audio_processor.py": lofi_audio_processor.main,
    "lofi_prompt_generator.py": lofi_prompt_generator.main,
    "convert_dataset.py": convert_dataset.main,
    "export_onnx.py": export_onnx.main,
    "merge_lora.py": merge_lora.main,
    "run_training.sh": run_training.main,
    "validate_checkpoint.py": validate_checkpoint.main,
}
DATASET_READS = {"check", "styles"}
DATASET_EDITS = {"sources", "assign", "score"}  # the metadata files that they are given


@dataclass(frozen=True)
class Writer:
    """One way to write.

    Attributes:
        name: the verb with its action, or the script with its command.
        main: runs it.
        words: the command line, from the folder of inputs and the output place.
        kind: a folder that is "replaced" as a whole, one that "grows", or a "file".
        code: of a refused place.
        inputs: below the folder of inputs, what is read: may not be the output.
        taken: of what grows: a name that it writes itself.
        suffix: of a file that is written.
        stage: in the record of what it makes.
    """

    name: str
    main: Main
    words: Words
    kind: Literal["replaced", "grows", "file"]
    code: int
    inputs: tuple[str, ...] = ()
    taken: str = ""
    suffix: str = ""
    stage: str = ""


def verb(*words: object) -> Callable[[Path, Path], list[object]]:
    """A command line in which "IN/x" is an input, and "OUT" the output place."""

    def line(inputs: Path, out: Path) -> list[object]:
        def one(word: object) -> object:
            if word == "OUT":
                return out
            text = str(word)
            return inputs / text.removeprefix("IN/") if text.startswith("IN/") else word

        return [one(word) for word in words]

    return line


_BUILD = ("IN/tracks", "--metadata", "IN/meta")
_TINY = ("--min-duration", "0", "--sample-rate", "8000", "--target-format", "wav", "--workers", "1")
_SAMPLES = ("--generate-samples", "--no-cache", "--prompts-file", "IN/prompts.txt")

WRITERS = [
    Writer("export", luthier, verb("export", "IN/model", "--out", "OUT"), "replaced", 2,
           ("model",), stage="export"),
    Writer("export_onnx.py", export_onnx.main,
           verb("--model", "IN/model", "--output", "OUT", "--precision", "fp16"), "replaced", 2,
           ("model",), stage="export"),
    Writer("merge", luthier,
           verb("merge", "--base-model", "IN/model", "--adapter", "IN/adapter", "--output-dir",
                "OUT", "--overwrite"), "replaced", 3, ("model", "adapter"), stage="merge"),
    Writer("merge_lora.py", merge_lora.main,
           verb("--base-model", "IN/model", "--lora-checkpoint", "IN/adapter", "--output-dir",
                "OUT"), "replaced", 3, ("model", "adapter"), stage="merge"),
    Writer("dataset build", luthier, verb("dataset", "build", *_BUILD, "--out", "OUT"), "replaced",
           2, ("tracks", "meta"), stage="dataset"),
    Writer("convert_dataset.py", convert_dataset.main,
           verb("--data-dir", "IN/tracks", "--metadata-dir", "IN/meta", "--output-dir", "OUT"),
           "replaced", 1, ("tracks", "meta"), stage="dataset"),
    Writer("dataset build-json", luthier,
           verb("dataset", "build-json", "IN/ace.json", "--metadata", "IN/meta", "--out", "OUT"),
           "replaced", 2, (), stage="dataset"),
    Writer("dataset import-json", luthier,
           verb("dataset", "import-json", "IN/ace.json", "--out", "OUT"), "replaced", 2),
    Writer("adapter convert", luthier,
           verb("adapter", "convert", "IN/adapter", "OUT", "--to", "peft"), "replaced", 2,
           ("adapter",), stage="adapter"),
    Writer("adapter convert to a file", luthier,
           verb("adapter", "convert", "IN/adapter", "OUT", "--to", "kohya"), "file", 2,
           suffix=".safetensors"),
    Writer("demo", luthier, verb("demo", "--quick", "--input", "IN/tracks", "--out", "OUT"),
           "replaced", 2, ("tracks",), stage="demo"),
    Writer("curate", luthier, verb("curate", "IN/tracks", "--out", "OUT", *_TINY), "grows", 2,
           taken="curation.json"),
    Writer("curate --report", luthier,
           verb("curate", "IN/tracks", "--out", "OUT", "--report", *_TINY), "grows", 2,
           taken="contact_sheet.html"),
    Writer("lofi_audio_processor.py process", lofi_audio_processor.main,
           verb("process", "--input-dir", "IN/tracks", "--output-dir", "OUT", *_TINY), "grows", 1,
           taken="curation.json"),
    Writer("prompts", luthier, verb("prompts", "IN/tracks", "--out", "OUT"), "grows", 2,
           taken="run.json"),
    Writer("lofi_prompt_generator.py generate", lofi_prompt_generator.main,
           verb("generate", "--audio-dir", "IN/tracks", "--style-mapping",
                "IN/meta/style_mapping.json", "--output-dir", "OUT"), "grows", 1,
           taken="run.json"),
    Writer("train", luthier,
           lambda i, o: ["train", "--dataset", i / "set", "--model", i / "model", "--exp-name",
                         o.name, "--logs-dir", o.parent], "grows", 2, ("set", "model"),
           taken="metrics.jsonl"),
    Writer("run_training.sh", run_training.main,
           lambda i, o: ["--dataset", i / "set", "--checkpoint-dir", i / "model", "--exp-name",
                         o.name, "--config", i / "config.json"], "grows", 1, ("set", "model"),
           taken="report.html"),
    Writer("evaluate", luthier,
           verb("evaluate", "IN/adapter", "--reference", "IN/tracks", *_SAMPLES,
                "--sample-output-dir", "OUT"), "grows", 2, taken="prompt-001.wav"),
    Writer("compare", luthier,
           verb("compare", "IN/adapter", "IN/clips", "--reference", "IN/tracks", *_SAMPLES,
                "--sample-output-dir", "OUT"), "grows", 2, taken="adapter/prompt-001.wav"),
    Writer("validate_checkpoint.py", validate_checkpoint.main,
           verb("--checkpoint", "IN/adapter", "--validation-set", "IN/tracks", *_SAMPLES,
                "--sample-output-dir", "OUT"), "grows", 1, taken="prompt-001.wav"),
    Writer("matrix", luthier, verb("matrix", "--out", "OUT", "--limit", "0"), "grows", 2,
           taken="notes.txt"),
    Writer("generate", luthier,
           verb("generate", "x", "--duration", "1", "--task", "cover", "--source",
                "IN/tracks/calm.wav", "--out", "OUT"), "file", 2, ("tracks/calm.wav",),
           suffix=".wav"),
    Writer("evaluate --out", luthier,
           verb("evaluate", "IN/clips", "--reference", "IN/tracks", "--requests",
                "IN/requests.json", "--no-cache", "--out", "OUT"), "file", 2,
           ("requests.json", "tracks/calm.wav"), suffix=".json"),
    Writer("evaluate --html", luthier,
           verb("evaluate", "IN/clips", "--reference", "IN/tracks", "--no-cache", "--html", "OUT"),
           "file", 2, ("tracks/calm.wav",), suffix=".html"),
    Writer("compare --out", luthier,
           verb("compare", "IN/one.json", "IN/two.json", "--out", "OUT"), "file", 2, ("one.json",),
           suffix=".json"),
    Writer("validate_checkpoint.py compare", validate_checkpoint.main,
           verb("compare", "--checkpoints", "IN/clips", "IN/more", "--validation-set", "IN/tracks",
                "--no-cache", "--out", "OUT"), "file", 1, ("tracks/calm.wav",), suffix=".json"),
    Writer("dataset export-json", luthier,
           verb("dataset", "export-json", "IN/set", "--out", "OUT"), "file", 2,
           ("set/dataset_manifest.json",), suffix=".json"),
    Writer("dataset label-json", luthier,
           verb("dataset", "label-json", "IN/ace.json", "--metadata", "IN/meta", "--out", "OUT"),
           "file", 2, ("meta/style_mapping.json",), suffix=".json"),
]  # fmt: skip


def tone(path: Path, pitch: float) -> None:
    """A second of a tone."""
    wave = 0.3 * np.sin(np.arange(8000) / pitch)
    write_audio(path, wave.astype(np.float32)[None], 8000)


def make_inputs(root: Path) -> Path:
    """A folder of everything that the rows read."""
    for name, pitch in (("calm", 5.0), ("loud", 7.0)):
        for folder in ("tracks", "clips", "more"):
            tone(root / folder / f"{name}.wav", pitch)
    record = {
        "source_id": "own", "track_ids": ["calm", "loud"], "source_type": "commissioned",
        "provider": "me", "license_type": "CC0-1.0", "date_acquired": "2025-01-01", "cost": 0,
        "ai_training_allowed": True,
    }  # fmt: skip
    sample = {"audio_path": str(root / "tracks" / "calm.wav"), "caption": "calm piano"}
    documents: dict[str, object] = {
        "meta/sources.json": [record],
        "meta/style_mapping.json": {"calm": ["CORE-01"]},
        "ace.json": {"metadata": {"name": "x"}, "samples": [sample]},
        "model/luthier.json": {"name": "x"},
        "model/manifest.json": {"files": {"luthier.json": {}}},
        "adapter/adapter_config.json": {"peft_type": "LORA"},
        "set/dataset_manifest.json": {"hash": "x", "train_count": 1, "validation_count": 0},
        "set/run.json": {"stage": "dataset", "inputs": []},
        "requests.json": [],
        "config.json": {},
        "one.json": {"checkpoint": "one"},
        "two.json": {"checkpoint": "two"},
    }
    for name, document in documents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    (root / "prompts.txt").write_text("calm piano\n")
    return root


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder by name: sha256 of files, targets of links, "" for folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found
