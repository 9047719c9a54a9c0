"""Names of layers that get an adapter: those of ACE-Step v1 and of the original 1.5 → ours.

ours are diffusers'. v1's `to_q` … `to_out.0` are the attention of the denoiser in both. Its
`linear_q`, `linear_k`, `linear_v` are the lyric encoder's, `speaker_embedder` the singer's: 1.5 has
them in the condition encoder (lyric and timbre encoder), whose output is computed once before the
training, so an adapter there would never be trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.errors import RequestError

_SAME_AS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "o_proj": "to_out.0"}
_LARGEST = 1024  # rank or alpha of a single layer
_OUTSIDE = {
    "speaker_embedder": "the timbre encoder",
    "linear_q": "the lyric encoder",
    "linear_k": "the lyric encoder",
    "linear_v": "the lyric encoder",
}


def translated(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The layers of the denoiser that `names` mean, sorted, and those that mean none there.

    Raises:
        RequestError: nothing is left to train.
    """
    kept = tuple(sorted({_SAME_AS.get(name, name) for name in names if name not in _OUTSIDE}))
    outside = tuple(name for name in names if name in _OUTSIDE)
    if not kept:
        raise RequestError(
            f"target_modules names only {', '.join(outside)}, and {left_out(outside)} Name layers "
            "of the denoiser: to_q, to_k, to_v, to_out.0, gate_proj, up_proj, down_proj."
        )
    return kept, outside


def pairs_of(values: Any) -> Any:
    """Values of single layers as `suffix:value`, from such or from an object, as peft has it."""
    if isinstance(values, Mapping):
        return tuple(f"{name}:{value}" for name, value in values.items())
    return tuple(text for text in values if text) if isinstance(values, list | tuple) else values


def layer_values(pairs: Sequence[str], *, whole: bool = False) -> dict[str, float]:
    """What `suffix:value` pairs say, with diffusers' names.

    Raises:
        ValueError: one is no pair of a layer's name and a number above 0.
    """
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.rpartition(":")
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not re.fullmatch(r"[\w.]+", name) or not 0 < value <= _LARGEST or (whole and value % 1):
            number = "a whole number" if whole else "a number"
            raise ValueError(
                f"it has {pair!r}: each is the end of a layer's name, a colon and {number} from "
                f"above 0 to {_LARGEST}, for example cross_attn.to_q:8"
            )
        head, dot, last = name.rpartition(".")
        found[head + dot + _SAME_AS.get(last, last)] = value
    return found


def left_out(outside: Sequence[str]) -> str:
    """A sentence on the names that have no counterpart in what is trained."""
    parts = ", ".join(sorted({_OUTSIDE[name] for name in outside}))
    verb = "has its" if len(outside) == 1 else "have their"
    return (
        f"{', '.join(outside)} {verb} counterpart in {parts} of ACE-Step 1.5, which is computed "
        "once before the training and stays as it is."
    )
