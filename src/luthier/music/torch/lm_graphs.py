"""The 5 Hz language model in torch: what its two graphs take and give, and the reference for them.

`prefill` reads a prompt; `decode` goes on from the keys and values of what was read before. Names
and axes are the contract's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, Qwen3Config

from luthier.music.torch.graphs import Graph


class _CausalLM(nn.Module):
    """A `Qwen3ForCausalLM` behind the signature of the graphs: tensors in, tensors out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, **past: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits [B, T_new, V], then key and value [B, heads, T_total, dim] of every layer."""
        cache = DynamicCache(config=self.model.config)
        for layer in range(len(past) // 2):
            cache.update(past[f"past_key_{layer}"], past[f"past_value_{layer}"], layer)
        places = (attention_mask.cumsum(1) - 1).clamp(min=0)
        result = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=places[:, -input_ids.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        )
        layers = result.past_key_values.layers
        present = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
        return result.logits, *present


def cache_names(config: Qwen3Config, time: str) -> tuple[str, ...]:
    """`past_key_0, past_value_0, past_key_1 …`, or `present_…`."""
    return tuple(
        f"{time}_{kind}_{layer}"
        for layer in range(config.num_hidden_layers)
        for kind in ("key", "value")
    )


def lm_graphs(model: Any, *, batch: int = 2, length: int = 7, seed: int = 0) -> list[Graph]:
    """Prefill and decode of a `Qwen3ForCausalLM`, with random example inputs.

    The first item of a batch of several is padded on the left.
    """
    config, draw = model.config, torch.Generator().manual_seed(seed)
    module = _CausalLM(model).eval()
    ids = torch.randint(config.vocab_size, (batch, length), generator=draw)
    mask = torch.ones_like(ids)
    if batch > 1:
        mask[0, :2] = 0
    new = torch.randint(config.vocab_size, (batch, 1), generator=draw)
    with torch.no_grad():
        past = module(ids, mask)[1:]
    names = cache_names(config, "past")
    more = torch.cat([mask, torch.ones_like(new)], dim=1)
    cached = {"input_ids": new, "attention_mask": more} | dict(zip(names, past, strict=True))
    return [
        _graph("prefill", module, {"input_ids": ids, "attention_mask": mask}, config),
        _graph("decode", module, cached, config),
    ]


def _graph(name: str, module: nn.Module, inputs: dict[str, Tensor], config: Qwen3Config) -> Graph:
    outputs, axes = lm_signature(config)[name]
    named = {key: dict(enumerate(names)) for key, names in axes.items()}
    moving = {
        key: {i: axis for i, axis in names.items() if not axis.isdigit()}
        for key, names in named.items()
    }
    return Graph(name, module, inputs, outputs, moving)


def lm_signature(config: Qwen3Config) -> dict[str, tuple[tuple[str, ...], dict[str, list[str]]]]:
    """Of each graph: the names of its outputs, and of every tensor the axes, numbers where fixed.

    What is no output is an input, in the order given.
    """
    heads, dim = str(config.num_key_value_heads), str(config.head_dim)
    past, present = cache_names(config, "past"), cache_names(config, "present")
    cached = {name: ["B", heads, "T_past", dim] for name in past}
    made = {name: ["B", heads, "T_total", dim] for name in present}
    outputs = ("logits", *present)
    prefill = {"input_ids": ["B", "T"], "attention_mask": ["B", "T"]}
    decode = {"input_ids": ["B", "T_new"], "attention_mask": ["B", "T_total"]}
    return {
        "prefill": (outputs, prefill | {"logits": ["B", "T", "V"]} | made),
        "decode": (outputs, decode | cached | {"logits": ["B", "T_new", "V"]} | made),
    }
