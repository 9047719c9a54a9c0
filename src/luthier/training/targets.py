"""Names of layers that get an adapter: those of ACE-Step v1 and of the original 1.5 → ours.

ours are diffusers'. v1's `to_q` … `to_out.0` are the attention of the denoiser in both. Its
`linear_q`, `linear_k`, `linear_v` are the lyric encoder's, `speaker_embedder` the singer's: 1.5 has
them in the condition encoder (lyric and timbre encoder), whose output is computed once before the
training, so an adapter there would never be trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from luthier.errors import RequestError

_SAME_AS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "o_proj": "to_out.0"}
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


def left_out(outside: Sequence[str]) -> str:
    """A sentence on the names that have no counterpart in what is trained."""
    parts = ", ".join(sorted({_OUTSIDE[name] for name in outside}))
    verb = "has its" if len(outside) == 1 else "have their"
    return (
        f"{', '.join(outside)} {verb} counterpart in {parts} of ACE-Step 1.5, which is computed "
        "once before the training and stays as it is."
    )
