"""The planner's language model in miniature: random weights, a real tokenizer, milliseconds."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen3Config, Qwen3ForCausalLM

_SESSION = tempfile.TemporaryDirectory(prefix="luthier-tiny-lm-")
CODES = 40
# As in the real vocabulary: words, then what has a meaning of its own, then audio codes.
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
_CORPUS = (
    "bpm: 120\ncaption: a calm piano piece with soft strings, warm and slow\nduration: 180\n"
    "keyscale: A minor\nlanguage: en\ntimesignature: 4\n",
    "# Instruction\nGenerate audio semantic tokens based on the given conditions:\n\n",
    "# Caption\nC# major, F♯ minor, B♭ major\n\n# Lyric\n[Verse]\nwords to sing\n  and more\n",
)


def tiny_lm_tokenizer(codes: int = CODES) -> Tokenizer:
    """A byte-level BPE with ChatML's tokens and `codes` audio codes at the end."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    audio = [f"<|audio_code_{n}|>" for n in range(codes)]
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL[:3]])
    tokenizer.add_tokens([AddedToken(t, special=False) for t in (*SPECIAL[3:], *audio)])
    return tokenizer


def tiny_lm_config(tokenizer: Tokenizer, **changes: Any) -> Qwen3Config:
    """Of two layers; widths that 8-bit blocks fit."""
    values = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 6144,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "tie_word_embeddings": True,
    }
    return Qwen3Config(**(values | changes))


def make_tiny_lm(folder: Path, seed: int = 0, codes: int = CODES, **changes: Any) -> Path:
    """Save a model folder as the hub has them: config, safetensors, tokenizer."""
    tokenizer = tiny_lm_tokenizer(codes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(tiny_lm_config(tokenizer, **changes))
        for weight in model.parameters():  # else all logits are alike
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=0.15)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@functools.cache
def tiny_lm_torch() -> Path:
    """A model folder, made once a session; read only."""
    return make_tiny_lm(Path(_SESSION.name) / "torch")


@functools.cache
def tiny_lm_onnx(precision: str = "fp32") -> Path:
    """`tiny_lm_torch` as exported graphs; read only."""
    from luthier.music.export.planner import export_lm

    folder = Path(_SESSION.name) / precision
    export_lm(tiny_lm_torch(), folder, precision=precision, variant="0.6B")  # type: ignore[arg-type]
    return folder
