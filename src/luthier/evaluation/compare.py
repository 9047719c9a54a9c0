"""Two evaluations → what got better, what got worse, in a table and one sentence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from luthier.errors import RequestError
from luthier.evaluation.evaluate import Evaluation

Direction = Literal["lower", "higher"]
Winner = Literal["base", "adapter", "same"]


@dataclass(frozen=True)
class ComparedMeasure:
    """One measure of both sides: which way is better, and which side is ahead."""

    name: str
    base: float | None
    adapter: float | None
    better: Direction
    winner: Winner | None


@dataclass(frozen=True)
class Comparison:
    """Base against adapter."""

    measures: tuple[ComparedMeasure, ...]
    improved: bool
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object of a comparison."""
        rows = [asdict(measure) for measure in self.measures]
        return {"improved": self.improved, "verdict": self.verdict, "measures": rows}


def compare_evaluations(base: Evaluation, adapter: Evaluation) -> Comparison:
    """Compare two evaluations made in the same embedding against the same reference.

    The adapter counts as improved when its FAD is lower; the other measures are told beside it,
    because an adapter that sounds like the recordings and no longer follows the tempo is a choice,
    not a success.
    """
    _refuse_unlike(base, adapter)
    measures = (
        _compared("fad", base.fad.value, adapter.fad.value, "lower"),
        _compared("fad_infinity", base.fad.infinite, adapter.fad.infinite, "lower"),
        _compared("tempo", _ratio(base, "tempo"), _ratio(adapter, "tempo"), "higher"),
        _compared("key", _ratio(base, "key"), _ratio(adapter, "key"), "higher"),
        _compared("clipping_ratio", base.clipping_ratio, adapter.clipping_ratio, "lower"),
        _compared("silence_ratio", base.silence_ratio, adapter.silence_ratio, "lower"),
    )
    improved = measures[0].winner == "adapter"
    worse = [m.name for m in measures[2:] if m.winner == "base"]
    return Comparison(measures, improved, _verdict(base, adapter, worse))


def _refuse_unlike(base: Evaluation, adapter: Evaluation) -> None:
    for what, first, second in (
        ("embedding", base.fad.embedding, adapter.fad.embedding),
        ("number of reference windows", base.fad.n_reference, adapter.fad.n_reference),
    ):
        if first != second:
            raise RequestError(
                f"the two evaluations cannot be compared: their {what} differs "
                f"({first} and {second}). "
                "Evaluate both against the same reference in the same embedding."
            )


def _ratio(evaluation: Evaluation, name: Literal["tempo", "key"]) -> float | None:
    result = evaluation.tempo if name == "tempo" else evaluation.key
    return None if result is None else round(result.ratio, 4)


def _compared(
    name: str, base: float | None, adapter: float | None, better: Direction
) -> ComparedMeasure:
    winner: Winner | None = None
    if base is not None and adapter is not None:
        gain = (base - adapter) if better == "lower" else (adapter - base)
        winner = "same" if gain == 0 else "adapter" if gain > 0 else "base"
    return ComparedMeasure(name, base, adapter, better, winner)


def _verdict(base: Evaluation, adapter: Evaluation, worse: list[str]) -> str:
    before, after = base.fad.value, adapter.fad.value
    if after < before:
        line = (
            f"The adapter is nearer to the held-out recordings: FAD fell from {before:.2f} "
            f"to {after:.2f} ({after / before - 1:+.0%})."
        )
    elif after > before:
        line = (
            f"The adapter is not nearer to the held-out recordings: FAD rose from {before:.2f} "
            f"to {after:.2f}. Train longer, or on more tracks."
        )
    else:
        line = f"The adapter changed nothing: FAD is {before:.2f} with and without it."
    names = {
        "tempo": "tempo adherence",
        "key": "key adherence",
        "clipping_ratio": "clipping",
        "silence_ratio": "silence",
    }
    told = " and ".join(names[name] for name in worse)
    return f"{line} Worse than before: {told}." if told else line
