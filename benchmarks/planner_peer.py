"""One language model in one process: how fast it writes, and how much memory that takes.

    python benchmarks/planner_peer.py luthier DIR      exported graphs
    python benchmarks/planner_peer.py fp32|bf16 DIR    transformers' `generate` on the weights

Prints one JSON object. A process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0


def luthier(folder: Path, prompt: list[int], tokens: int, threads: int) -> dict[str, Any]:
    """Audio codes with the planner's own decoding, opened and warm."""
    from luthier.music.planner.decoding import Text, write
    from luthier.music.planner.grammar import Codes, Grammar
    from luthier.music.planner.planner import Planner
    from luthier.music.planner.sampling import Sampling

    opened = time.perf_counter()
    planner = Planner(folder, threads=threads)

    def run(count: int) -> list[int]:
        grammar = Grammar([Codes(planner.vocabulary, count)])
        text = Text(prompt, grammar, np.random.default_rng(SEED))
        return write(planner.lm, [text], Sampling(), count, codes_only=True)[0]

    return timed(run, tokens, opened)


def transformers(
    folder: Path, prompt: list[int], tokens: int, threads: int, dtype: str
) -> dict[str, Any]:
    """The same number of tokens with the same rules of sampling, of the whole vocabulary."""
    import torch
    from transformers import Qwen3ForCausalLM

    opened = time.perf_counter()
    torch.set_num_threads(threads)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=kinds[dtype]).eval()
    ids = torch.tensor([prompt])

    def run(count: int) -> list[int]:
        torch.manual_seed(SEED)
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=True,
            temperature=0.85,
            top_p=0.9,
            top_k=0,
            pad_token_id=0,
        )
        found: list[int] = made[0, len(prompt) :].tolist()
        return found

    return timed(run, tokens, opened)


def timed(run: Any, tokens: int, opened: float) -> dict[str, Any]:
    """Time `run(tokens)` once it is warm, and one token, which is reading the prompt."""
    run(2)
    ready = time.perf_counter()
    assert len(run(1)) == 1
    read = time.perf_counter()
    assert len(run(tokens)) == tokens
    total_s, prompt_s = time.perf_counter() - read, read - ready
    return {
        "tokens_per_s": round(tokens / total_s, 3),
        "prompt_s": round(prompt_s, 3),
        "step_ms": round(1e3 * (total_s - prompt_s) / (tokens - 1), 2),
        "open_s": round(ready - opened, 2),
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """The most memory that this process has had resident."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    raise SystemExit("this system does not tell the peak memory of a process")


def main() -> None:
    """Run one engine and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=("luthier", "fp32", "bf16"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=100, help="tokens of the prompt")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    prompt = np.random.default_rng(SEED).integers(0, 150_000, args.prompt).tolist()
    if args.engine == "luthier":
        found = luthier(args.folder, prompt, args.tokens, args.threads)
    else:
        found = transformers(args.folder, prompt, args.tokens, args.threads, args.engine)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
