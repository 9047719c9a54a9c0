"""A 5 Hz language model's folder → its prefill and decode graphs, their contract, its tokenizer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import torch
from onnx import TensorProto, ValueInfoProto, helper
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from luthier.errors import ModelError, RequestError
from luthier.export.lm_nodes import Weights
from luthier.export.lm_qwen3 import LMShape, build_graph
from luthier.export.lm_weights import Checkpoint, LMPrecision, WeightFile
from luthier.export.parity import Parity, check, compare
from luthier.files import read_json, write_bytes, write_json
from luthier.music.export.contract import manifest_entry, other_files
from luthier.music.torch.lm_graphs import lm_graphs, lm_signature
from luthier.output_folder import output_folder
from luthier.progress import SILENT, Display
from luthier.provenance import write_run
from luthier.runtime.contract import CONTRACT_VERSION
from luthier.runtime.manifest import MANIFEST_NAME
from luthier.runtime.text import load_tokenizer

LM_PRECISIONS: tuple[str, ...] = get_args(LMPrecision)
VARIANTS = {"0.6B": "0p6", "1.7B": "1p7", "4B": "4b"}  # variant: tag in file names
_VARIANT_OF_WIDTH = {1024: "0.6B", 2048: "1.7B", 2560: "4B"}
FIRST_CODE_TOKEN = "<|audio_code_0|>"
# 8·8·8·5·5·5: the vocabulary has more slots than the quantiser has codes.
_QUANTISER_CODES = 64_000
# 600 s are 3000 codes; with the longest lyrics before them they pass 4096.
_CONTEXT = 8192
_CHANGING_ROTARY = ("dynamic", "longrope")


@dataclass(frozen=True)
class ExportedLM:
    """The two graphs of one language model in a folder."""

    tag: str
    precision: LMPrecision
    graphs: tuple[str, ...]  # file names
    size_bytes: int  # of graphs and weights
    seconds: float
    parity: dict[str, Parity]  # by graph; empty without `verify`

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        parity = {name: value.as_dict() for name, value in self.parity.items()}
        return asdict(self) | {"graphs": list(self.graphs), "parity": parity}


def export_lm(
    model_dir: Path,
    output_dir: Path,
    *,
    precision: LMPrecision = "int8",
    variant: str | None = None,
    verify: bool = False,
    display: Display = SILENT,
) -> ExportedLM:
    """Export a language model into a folder of its own, with manifest; it appears whole or not.

    Args:
        model_dir: config.json, *.safetensors and tokenizer.json of a `Qwen3ForCausalLM` whose
            vocabulary ends with audio codes.
        variant: one of `VARIANTS`; told by the folder's name, or the model's
            width, when not given.
        verify: compare both graphs with torch, which needs the whole model in memory.

    Raises:
        RequestError: an unknown precision or variant.
        OutputError: what lies in `output_dir` is not an export, or is read.
        ModelError: the folder is no such model.
        ParityError: a graph differs too much from torch.
    """
    with output_folder(output_dir, "export", [model_dir]) as folder:
        made = write_lm(
            model_dir, folder, precision=precision, variant=variant, verify=verify, display=display
        )
        _write_manifest(folder, output_dir.name, made)
        config = {"precision": precision, "verify": verify}
        write_run(folder, stage="export", inputs=[model_dir], config=config, name=output_dir.name)
    return made


def write_lm(
    model_dir: Path,
    folder: Path,
    *,
    precision: LMPrecision = "int8",
    variant: str | None = None,
    verify: bool = False,
    display: Display = SILENT,
) -> ExportedLM:
    """Write the graphs, contract and tokenizer of a language model into `folder`, and no manifest.

    One tensor is in memory at a time. Arguments and errors are those of `export_lm`.
    """
    if precision not in LM_PRECISIONS:
        raise RequestError(f"precision is {precision!r}: choose {', '.join(LM_PRECISIONS)}.")
    started = time.monotonic()
    config = _config(model_dir)
    variant = _variant(config, variant or _named(model_dir))
    tag = f"lm_{VARIANTS[variant]}"
    facts = {"variant": variant} | _vocabulary(model_dir, config)
    shape = _shape(config, int(facts["first_code"]))
    names = {kind: f"{tag}_{kind}.onnx" for kind in ("prefill", "decode")}
    data = folder / f"{tag}.onnx.data"
    with data.open("wb") as stream, display.task("export", total=2) as task:
        weights = Weights(Checkpoint(model_dir), WeightFile(stream, data.name), precision)
        for kind, name in names.items():
            proto = build_graph(weights, shape, *_values(config, kind))
            helper.set_model_props(proto, {key: str(value) for key, value in facts.items()})
            onnx.save(proto, folder / name)
            task.advance(note=name)
    for name in names.values():
        onnx.checker.check_model(str(folder / name))
    write_bytes(folder / f"{tag}_tokenizer.json", (model_dir / "tokenizer.json").read_bytes())
    write_contract(folder, tag)
    parity = _verified(model_dir, folder, names, precision) if verify else {}
    size = sum(path.stat().st_size for path in folder.glob(f"{tag}*.onnx*"))
    seconds = round(time.monotonic() - started, 2)
    return ExportedLM(tag, precision, tuple(names.values()), size, seconds, parity)


def write_contract(folder: Path, tag: str) -> None:
    """Write `io_contract_<tag>.json` from what the two graph files say of themselves."""
    contract: dict[str, Any] = {}
    for kind in ("prefill", "decode"):
        name = f"{tag}_{kind}.onnx"
        proto = onnx.load(folder / name, load_external_data=False)
        defaults = {tensor.name for tensor in proto.graph.initializer}
        inputs = [value.name for value in proto.graph.input]
        contract |= {
            f"{kind}_path": name,
            kind: {
                "inputs": [name for name in inputs if name not in defaults],
                "optional_inputs": [name for name in inputs if name in defaults],
                "outputs": [value.name for value in proto.graph.output],
            },
        }
    facts = {prop.key: prop.value for prop in proto.metadata_props}
    numbers = ("first_code", "legal_codes", "context_length")
    layers = sum(name.startswith("present_key_") for name in contract["decode"]["outputs"])
    head = {"contract_version": CONTRACT_VERSION, "variant": facts["variant"], "num_layers": layers}
    rest = {"tokenizer_path": f"{tag}_tokenizer.json"} | {key: int(facts[key]) for key in numbers}
    write_json(folder / f"io_contract_{tag}.json", head | contract | rest)


def lm_manifest_entries(folder: Path, made: ExportedLM) -> dict[str, dict[str, Any]]:
    """What a manifest records of each graph file, under the group `made.tag`."""
    entries = {}
    for name in made.graphs:
        kind = name.removeprefix(f"{made.tag}_").removesuffix(".onnx")
        parity = {"parity": made.parity[kind].as_dict()} if kind in made.parity else {}
        entries[name] = manifest_entry(folder / name) | {"precision": made.precision} | parity
    return entries


def _write_manifest(folder: Path, root: str, made: ExportedLM) -> None:
    write_json(
        folder / MANIFEST_NAME,
        {
            "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "artifact_root": root,
            "precision": made.precision,
            "models": {made.tag: lm_manifest_entries(folder, made)},
            "files": other_files(folder),
        },
    )


def _config(folder: Path) -> Qwen3Config:
    values = read_json(folder / "config.json")
    if not isinstance(values, dict) or values.get("model_type") != "qwen3":
        found = values.get("model_type") if isinstance(values, dict) else None
        raise ModelError(
            f"{folder} holds a model of type {found!r}: the planner is a qwen3 language model."
        )
    config = Qwen3Config(**values)
    rotary = config.rope_parameters["rope_type"]
    if rotary in _CHANGING_ROTARY or set(config.layer_types) != {"full_attention"}:
        raise ModelError(
            f"the model in {folder} cannot be exported: its attention ({rotary} positions, layers "
            f"{', '.join(sorted(set(config.layer_types)))}) changes with the length of the text."
        )
    if config.attention_bias:
        raise ModelError(f"the model in {folder} cannot be exported: its attention has biases.")
    return config


def _named(folder: Path) -> str | None:
    """The variant in a folder's name, as the hub's end with it: acestep-5Hz-lm-0.6B."""
    return next((name for name in VARIANTS if folder.name.endswith(name)), None)


def _variant(config: Qwen3Config, wanted: str | None) -> str:
    found = wanted or _VARIANT_OF_WIDTH.get(config.hidden_size)
    if found is None:
        raise RequestError(
            f"a model {config.hidden_size} wide is none of {', '.join(VARIANTS)}: say which of "
            "these names it shall have."
        )
    if found not in VARIANTS:
        raise RequestError(f"variant is {found!r}: choose {', '.join(VARIANTS)}.")
    return found


def _vocabulary(folder: Path, config: Qwen3Config) -> dict[str, int]:
    first = load_tokenizer(folder / "tokenizer.json").token_to_id(FIRST_CODE_TOKEN)
    if first is None or first >= config.vocab_size:
        raise ModelError(
            f"the tokenizer in {folder} has no {FIRST_CODE_TOKEN}: this is a language model, but "
            "none that plans music."
        )
    return {
        "first_code": first,
        "legal_codes": min(_QUANTISER_CODES, config.vocab_size - first),
        "context_length": min(_CONTEXT, config.max_position_embeddings),
    }


def _shape(config: Qwen3Config, first_code: int) -> LMShape:
    positions = min(_CONTEXT, config.max_position_embeddings)
    # transformers' own, so that scaled positions (linear, YaRN, Llama 3) come out as it has them.
    rotary = Qwen3RotaryEmbedding(config)
    angles = np.outer(np.arange(positions), rotary.inv_freq.double().numpy())
    scale = float(rotary.attention_scaling)
    return LMShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        first_code=first_code,
        epsilon=config.rms_norm_eps,
        tied=config.tie_word_embeddings,
        rotary=(
            (np.cos(angles) * scale).astype(np.float32),
            (np.sin(angles) * scale).astype(np.float32),
        ),
    )


def _values(config: Qwen3Config, kind: str) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """The inputs and the outputs of a graph."""
    names, axes = lm_signature(config)[kind]
    made = {name: _value(name, dims) for name, dims in axes.items()}
    return [v for k, v in made.items() if k not in names], [made[name] for name in names]


def _value(name: str, axes: list[str]) -> ValueInfoProto:
    whole = name in ("input_ids", "attention_mask")
    kind = TensorProto.INT64 if whole else TensorProto.FLOAT
    dims = [int(axis) if axis.isdigit() else axis for axis in axes]
    return helper.make_tensor_value_info(name, kind, dims)


def _verified(
    model_dir: Path, folder: Path, names: Mapping[str, str], precision: LMPrecision
) -> dict[str, Parity]:
    model = Qwen3ForCausalLM.from_pretrained(
        model_dir, dtype=torch.float32, attn_implementation="eager", use_safetensors=True
    )
    found = {}
    for graph in lm_graphs(model.eval(), batch=1, length=24):
        found[graph.name] = compare(graph, folder / names[graph.name])
        check(graph, found[graph.name], precision)
    return found
