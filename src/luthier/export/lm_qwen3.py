"""A Qwen3 language model as an ONNX graph, built node by node around its weights.

Written directly rather than traced, for three reasons: a model of any size is exported with one
tensor in memory at a time; the prefill and the decode graph share one data file; and attention is
ONNX Runtime's GroupQueryAttention, which writes new keys and values into the cache where it lies.
Activations are rows (items · places, hidden) everywhere but around attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from luthier.export.lm_nodes import CONTRIB, GraphBuilder, Weights

LM_OPSET = 18
LOGITS_FROM, CODES_ONLY = "logits_from", "codes_only"
_END = int(np.iinfo(np.int64).max)
_MASKED = -1e9  # added to the score of what must not be seen
_EMBEDDING, _HEAD = ["embed_tokens.weight"], ["lm_head.weight"]


@dataclass(frozen=True)
class LMShape:
    """What the graph needs to know of a configuration.

    Attributes:
        first_code: the token from which on the vocabulary is audio codes; the head is cut there.
        tied: the head multiplies with the embeddings.
        rotary: cosines and sines, (positions, head_dim / 2) each.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    first_code: int
    epsilon: float
    tied: bool
    rotary: tuple[NDArray[np.float32], NDArray[np.float32]]

    @property
    def tables(self) -> dict[str, slice]:
        """The vocabulary in two: words, and audio codes."""
        return {"text": slice(0, self.first_code), "codes": slice(self.first_code, None)}


def build_graph(
    weights: Weights,
    shape: LMShape,
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
) -> Any:
    """The model with these inputs and outputs; with `past_key_i` among them it goes on from them.

    Two more inputs have defaults, so that they need not be given: `logits_from` [1], the place from
    which on logits are wanted, and `codes_only`, which leaves out the logits of words. They spare a
    third of the work of a step.
    """
    b = GraphBuilder(weights)
    with_past = any(value.name.startswith("past_") for value in inputs)
    size = b.node("Shape", "input_ids")
    x = _embedded(b, shape, b.node("Reshape", "input_ids", b.constant([-1])))
    attention = _Attention(b, shape, size, with_past)
    for layer in range(shape.layers):
        x = attention.apply(x, layer)
        x = _feed_forward(b, shape, x, layer)
    _head(b, shape, _norm(b, shape, x, "norm.weight"), size)
    defaults = {
        LOGITS_FROM: helper.make_tensor(LOGITS_FROM, TensorProto.INT64, [1], [0]),
        CODES_ONLY: helper.make_tensor(CODES_ONLY, TensorProto.BOOL, [1], [False]),
    }
    optional = [
        helper.make_tensor_value_info(name, value.data_type, [1])
        for name, value in defaults.items()
    ]
    graph = helper.make_graph(
        b.nodes,
        "lm",
        [*inputs, *optional],
        list(outputs),
        initializer=[*b.initializers.values(), *defaults.values()],
    )
    opsets = [helper.make_opsetid("", LM_OPSET), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="luthier")


def _norm(b: GraphBuilder, shape: LMShape, x: str, weight: str) -> str:
    """Root-mean-square normalisation over the last axis; ONNX Runtime makes one node of it."""
    (scale,) = b.use(b.weights.plain(weight))
    square = b.node("Pow", x, b.constant(2.0, np.float32))
    mean = b.node("ReduceMean", square, b.constant([-1]), keepdims=1)
    safe = b.node("Add", mean, b.constant(shape.epsilon, np.float32))
    return b.node("Mul", b.node("Div", x, b.node("Sqrt", safe)), scale)


def _embedded(b: GraphBuilder, shape: LMShape, ids: str) -> str:
    """Token numbers (n,) → vectors (n, hidden), from the two tables."""
    first, tables = b.constant(shape.first_code), shape.tables
    word = b.node("Min", ids, b.constant(shape.first_code - 1))
    code = b.node("Max", b.node("Sub", ids, first), b.constant(0))
    is_word = b.node("Unsqueeze", b.node("Less", ids, first), b.constant([1]))
    text = b.rows("tokens.text", _EMBEDDING, tables["text"], word)
    codes = b.rows("tokens.codes", _EMBEDDING, tables["codes"], code)
    return b.node("Where", is_word, text, codes)


class _Attention:
    """Self-attention of every layer, with what all layers share: mask and rotary tables.

    Positions count padding too. Rotary attention sees differences of positions only, so that
    padding on the left, where the mask hides it, changes nothing.
    """

    def __init__(self, b: GraphBuilder, shape: LMShape, size: str, with_past: bool) -> None:
        self.b, self.shape, self.with_past = b, shape, with_past
        names = ("rotary.cos", "rotary.sin")
        self.rotary = [
            b.use(b.weights.plain(name, table))[0]
            for name, table in zip(names, shape.rotary, strict=True)
        ]
        one, two = b.constant([1]), b.constant([2])
        items = b.node("Slice", size, b.constant([0]), one)
        length = b.node("Slice", size, one, two)
        total = b.node("Slice", b.node("Shape", "attention_mask"), one, two)
        self.bias = self._bias(b.node("Concat", items, one, length, total, axis=0))
        small = b.node("Cast", b.node("Squeeze", total), to=TensorProto.INT32)
        # Padding is in the mask: to the operator every item is as long as the longest.
        self.last = b.node("Expand", b.node("Sub", small, b.constant(1, np.int32)), items)
        self.total = small
        self.joined = {
            heads: b.node("Concat", size, b.constant([heads * shape.head_dim]), axis=0)
            for heads in (shape.heads, shape.kv_heads)
        }

    def _bias(self, grid: str) -> str:
        """What is added to the scores: [B, 1, T_new, T_total]."""
        b = self.b
        padding = b.node(
            "Cast", b.node("Sub", b.constant(1), "attention_mask"), to=TensorProto.FLOAT
        )
        bias = b.node("Mul", padding, b.constant(_MASKED, np.float32))
        return b.node("Expand", b.node("Unsqueeze", bias, b.constant([1, 2])), grid)

    def apply(self, x: str, layer: int) -> str:
        """One layer's attention and its residual."""
        b, shape = self.b, self.shape
        here = f"layers.{layer}.self_attn"
        normed = _norm(b, shape, x, f"layers.{layer}.input_layernorm.weight")
        parts = [f"{here}.{kind}_proj.weight" for kind in "qkv"]
        widths = [n * shape.head_dim for n in (shape.heads, shape.kv_heads, shape.kv_heads)]
        q, k, v = b.nodes_of(
            "Split", [b.linear(normed, f"{here}.qkv", parts), b.constant(widths)], 3, axis=1
        )
        q = self._normed_heads(q, f"{here}.q_norm.weight", shape.heads)
        k = self._normed_heads(k, f"{here}.k_norm.weight", shape.kv_heads)
        v = b.node("Reshape", v, self.joined[shape.kv_heads])
        past = [f"past_key_{layer}", f"past_value_{layer}"] if self.with_past else ["", ""]
        b.named(
            "GroupQueryAttention",
            [q, k, v, *past, self.last, self.total, *self.rotary, "", self.bias],
            [f"{here}.out", f"present_key_{layer}", f"present_value_{layer}"],
            domain=CONTRIB,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
        )
        rows = b.node("Reshape", f"{here}.out", b.constant([-1, shape.heads * shape.head_dim]))
        return b.node("Add", x, b.linear(rows, f"{here}.o", [f"{here}.o_proj.weight"]))

    def _normed_heads(self, x: str, weight: str, heads: int) -> str:
        b = self.b
        split = b.node("Reshape", x, b.constant([-1, self.shape.head_dim]))
        return b.node("Reshape", _norm(b, self.shape, split, weight), self.joined[heads])


def _feed_forward(b: GraphBuilder, shape: LMShape, x: str, layer: int) -> str:
    """The gated feed-forward of a layer and its residual."""
    here = f"layers.{layer}.mlp"
    normed = _norm(b, shape, x, f"layers.{layer}.post_attention_layernorm.weight")
    parts = [f"{here}.{kind}_proj.weight" for kind in ("gate", "up")]
    gate, up = b.nodes_of(
        "Split", [b.linear(normed, f"{here}.gate_up", parts)], 2, axis=1, num_outputs=2
    )
    active = b.node("Mul", b.node("Mul", gate, b.node("Sigmoid", gate)), up)
    return b.node("Add", x, b.linear(active, f"{here}.down", [f"{here}.down_proj.weight"]))


def _head(b: GraphBuilder, shape: LMShape, x: str, size: str) -> None:
    """Rows → `logits` [B, T, vocabulary], of the wanted places and part of the vocabulary."""
    name, parts = ("tokens", _EMBEDDING) if shape.tied else ("tokens.head", _HEAD)
    places = b.node("Reshape", x, b.node("Concat", size, b.constant([shape.hidden]), axis=0))
    wanted = b.node("Slice", places, LOGITS_FROM, b.constant([_END]), b.constant([1]))
    rows = b.node("Reshape", wanted, b.constant([-1, shape.hidden]))
    codes = b.linear(rows, f"{name}.codes", parts, shape.tables["codes"])
    without, with_text = b.branch("without_text_"), b.branch("with_text_")
    with_text.linear(rows, f"{name}.text", parts, shape.tables["text"])
    without.node("Slice", codes, b.constant([0]), b.constant([0]), b.constant([1]))
    branches = {
        f"{kind}_branch": helper.make_graph(
            inner.nodes,
            kind,
            [],
            [helper.make_tensor_value_info(inner.nodes[-1].output[0], TensorProto.FLOAT, None)],
        )
        for kind, inner in (("then", without), ("else", with_text))
    }
    text = b.node("If", b.node("Squeeze", CODES_ONLY), **branches)
    both = b.node("Concat", text, codes, axis=1)
    grid = b.node("Slice", b.node("Shape", wanted), b.constant([0]), b.constant([2]))
    b.named("Reshape", [both, b.node("Concat", grid, b.constant([-1]), axis=0)], ["logits"])
