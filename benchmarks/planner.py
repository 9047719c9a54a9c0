"""The planner's language model at full size (0.6B, random weights) against transformers.

    python benchmarks/planner.py [--work DIR] [--rounds 3]

Every round runs each engine in a fresh process, one after the other, on the same weights: what is
compared is from the same minutes. The weights are written to --work when they are not there
(1.3 GB, and 1.3 GB of graphs).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, write_result

# name in the result: (engine, folder)
ENGINES = {
    "luthier int8": ("luthier", "int8"),
    "transformers bf16": ("bf16", "torch"),
    "luthier int4": ("luthier", "int4"),
    "transformers fp32": ("fp32", "torch"),
}
VOCABULARY, FIRST_CODE = 217_204, 151_669


def prepare(work: Path) -> None:
    """Write the random model and its graphs, in a process of its own: they need memory."""
    if not (work / "torch" / "tokenizer.json").is_file():
        subprocess.run([sys.executable, __file__, "--write-model", str(work / "torch")], check=True)
    for precision in ("int8", "int4"):
        if not (work / precision).is_dir():
            code = (
                "import sys, resource; from pathlib import Path;"
                "from luthier.music.export.planner import export_lm;"
                "export_lm(Path(sys.argv[1]), Path(sys.argv[2]), precision=sys.argv[3])"
            )
            words = [str(work / "torch"), str(work / precision), precision]
            subprocess.run([sys.executable, "-c", code, *words], check=True)


def write_model(folder: Path) -> None:
    """A `Qwen3ForCausalLM` of the 0.6B shape in bfloat16, and a tokenizer with its numbers."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    marks += [f"<|mark_{n}|>" for n in range(21)] + ["<think>", "</think>"]
    words = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words |= {f"<filler{n}>": n for n in range(len(words), FIRST_CODE - len(marks))}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    codes = range(VOCABULARY - FIRST_CODE)
    tokenizer.add_tokens([AddedToken(f"<|audio_code_{n}|>", special=False) for n in codes])
    tokenizer.save(str(folder / "tokenizer.json"))


def run(engine: str, folder: Path, tokens: int) -> dict[str, Any]:
    """One engine in a fresh process."""
    script = Path(__file__).with_name("planner_peer.py")
    words = [sys.executable, str(script), engine, str(folder), "--tokens", str(tokens)]
    words += ["--threads", str(len(os.sched_getaffinity(0)))]
    found = subprocess.run(words, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(found.stdout.strip().splitlines()[-1])
    return result | {"load_1min": round(os.getloadavg()[0], 2)}


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of each engine, and of the ratios within a round."""
    names = list(ENGINES)
    keys = ("tokens_per_s", "prompt_s", "step_ms", "open_s", "peak_mb")
    medians = {
        name: {key: statistics.median(one[name][key] for one in rounds) for key in keys}
        for name in names
    }
    ratios = {}
    for ours in ("luthier int8", "luthier int4"):
        for theirs in ("transformers fp32", "transformers bf16"):
            faster = [o[ours]["tokens_per_s"] / o[theirs]["tokens_per_s"] for o in rounds]
            memory = [o[ours]["peak_mb"] / o[theirs]["peak_mb"] for o in rounds]
            ratios[f"{ours} / {theirs}"] = {
                "speed": round(statistics.median(faster), 2),
                "speed_range": [round(min(faster), 2), round(max(faster), 2)],
                "peak_memory": round(statistics.median(memory), 3),
            }
    return {"median": medians, "ratio": ratios}


def main() -> None:
    """Run and write results/planner.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="where weights and graphs are kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    parser.add_argument("--write-model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write_model:
        write_model(args.write_model)
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        prepare(work)
        rounds = []
        for _ in range(args.rounds):
            one = {name: run(e, work / f, args.tokens) for name, (e, f) in ENGINES.items()}
            rounds.append(one)
            print({name: value["tokens_per_s"] for name, value in one.items()}, flush=True)
    value = {"tokens": args.tokens, "prompt_tokens": 100, **summary(rounds), "rounds": rounds}
    print(json.dumps(value["ratio"], indent=2))
    print(write_result(args.results, "planner", value))


if __name__ == "__main__":
    main()
