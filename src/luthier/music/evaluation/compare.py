"""Several evaluations against the same real tracks → which is best, why, and whether later ones
over-fit.

The contract asks for the best checkpoint and defines no score for it. Ours is an order, not a sum
of unlike numbers: clips that are broken count against a checkpoint first; then the Fréchet distance
decides; where it cannot tell two apart (one lies in the other's bootstrap interval), CLAP, then
tempo and key, then the smaller number of steps do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from luthier.errors import RequestError

_STEP = re.compile(r"step=(\d+)")
_OVERFIT = 1.05  # later distances at least this much larger, where there is no interval
_LOSS_RISE = 1.02


@dataclass(frozen=True)
class Scored:
    """One checkpoint's numbers, as ranking needs them.

    Attributes:
        name: the checkpoint.
        step: of training, from the name; None where it has none.
        fad: Fréchet distance, in `embedding`, to `n_reference` windows; `interval` is its 95 %.
        clap: mean cosine with the prompts.
        styles: share of the styles that could be judged and were recognised.
        adherence: share of tempo and key requests that were met.
        usable: share of clips that are neither silent nor clipped.
        validation_loss: of the training run, where it was measured.
        failed: gates that were not passed.
    """

    name: str
    step: int | None
    fad: float
    interval: tuple[float, float] | None
    embedding: str
    n_reference: int
    n_candidate: int
    clap: float | None
    styles: float | None
    adherence: float | None
    usable: float
    validation_loss: float | None
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """Checkpoints, the best first, with the reason and what to beware of."""

    rows: tuple[Scored, ...]
    reason: str
    warnings: tuple[str, ...]

    @property
    def best(self) -> Scored:
        """The one to take."""
        return self.rows[0]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "best": self.best.name,
            "reason": self.reason,
            "warnings": list(self.warnings),
            "ranking": [{"rank": i} | asdict(row) for i, row in enumerate(self.rows, 1)],
        }

    def to_text(self) -> str:
        """A table for people."""
        width = max(len("checkpoint"), *(len(row.name) for row in self.rows))
        head = f"  {'checkpoint':<{width}} {'FAD':>9} {'95 %':>17} {'CLAP':>7} {'styles':>7} "
        lines = [f"{head}{'tempo+key':>10} {'usable':>7}"]
        for index, row in enumerate(self.rows):
            spread = "" if row.interval is None else "{:.3f}–{:.3f}".format(*row.interval)
            lines.append(
                f"{'*' if index == 0 else ' '} {row.name:<{width}} {row.fad:>9.3f} {spread:>17} "
                f"{_shown(row.clap, '.3f'):>7} {_shown(row.styles, '.0%'):>7} "
                f"{_shown(row.adherence, '.0%'):>10} {row.usable:>7.0%}"
            )
        return "\n".join([*lines, self.reason, *(f"warning: {text}" for text in self.warnings)])


def scored(evaluation: Mapping[str, Any], validation_loss: float | None = None) -> Scored:
    """Read an evaluation's JSON object; `RequestError` when it is none.

    Args:
        evaluation: as `Evaluation.to_json` gives it.
        validation_loss: of the checkpoint, where training measured it.
    """
    try:
        fad, name = evaluation["fad"], str(evaluation["checkpoint"])
        styles = evaluation["styles"]
        gates = {gate["name"]: gate for gate in evaluation["gates"]}
        asked = [row for key in ("tempo", "key") if (row := evaluation[key])]
        total = sum(row["n"] for row in asked)
        found = _STEP.search(name)
        spread = fad["interval_95"]
        return Scored(
            name=name,
            step=int(found[1]) if found else None,
            fad=float(fad["value"]),
            interval=None if spread is None else (float(spread[0]), float(spread[1])),
            embedding=str(fad["embedding"]),
            n_reference=int(fad["n_reference"]),
            n_candidate=int(fad["n_candidate"]),
            clap=evaluation["clap_score"],
            styles=styles["recognised"] / styles["measured"] if styles["measured"] else None,
            adherence=sum(row["passed"] for row in asked) / total if total else None,
            usable=float(gates["usable"]["raw"]),
            validation_loss=validation_loss,
            failed=tuple(name for name, gate in gates.items() if gate["passed"] is False),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RequestError(
            f"this is not an evaluation of luthier (or of an older version): {error!r}. "
            "Make it again with  luthier evaluate --out FILE"
        ) from error


def rank(rows: Sequence[Scored]) -> Ranking:
    """Order checkpoints, the best first.

    Raises:
        RequestError: fewer than two, two of one name, or measured differently.
    """
    if len(rows) < 2:
        raise RequestError("a comparison needs at least two checkpoints.")
    names = [row.name for row in rows]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RequestError(f"two of the checkpoints are called {twice[0]}: rename one.")
    for row in rows[1:]:
        _refuse_unlike(rows[0], row)
    ordered = sorted(rows, key=lambda row: (-row.usable, row.fad, row.name))
    best = ordered[0]
    equal = [r for r in ordered if r.usable == best.usable and _within(r.fad, best)]
    equal.sort(key=_tie_break)
    rest = [row for row in ordered if row not in equal]
    final = (*equal, *rest)
    return Ranking(final, _reason(final, equal), tuple(_warnings(rows, final[0])))


def _refuse_unlike(first: Scored, second: Scored) -> None:
    for what, one, other in (
        ("embedding", first.embedding, second.embedding),
        ("number of reference windows", first.n_reference, second.n_reference),
    ):
        if one != other:
            raise RequestError(
                f"{first.name} and {second.name} cannot be compared: their {what} differs "
                f"({one} and {other}). Evaluate all against the same reference in the same "
                "embedding."
            )


def _within(value: float, row: Scored) -> bool:
    return (row.interval is not None and value <= row.interval[1]) or value == row.fad


def _tie_break(row: Scored) -> tuple[float, float, float, float]:
    return (
        -(row.clap if row.clap is not None else -1.0),
        -(row.adherence if row.adherence is not None else 0.0),
        float(row.step) if row.step is not None else float("inf"),
        row.fad,
    )


def _reason(rows: Sequence[Scored], equal: Sequence[Scored]) -> str:
    best, second = rows[0], rows[1]
    line = f"{best.name} is best: "
    if len(equal) == 1:
        if second.usable < best.usable:
            line += f"all the others have more silent or clipped clips ({second.name} next)"
        else:
            line += (
                f"it is nearest to the real tracks, FAD {best.fad:.3f} against {second.fad:.3f} "
                f"of {second.name}"
            )
    else:
        others = ", ".join(row.name for row in equal if row is not best)
        line += f"its FAD {best.fad:.3f} cannot be told from that of {others}, and {_edge(equal)}"
    failed = f" It does not pass: {', '.join(best.failed)}." if best.failed else ""
    return f"{line}.{failed}"


def _edge(equal: Sequence[Scored]) -> str:
    """By what the first of equals is ahead of the second."""
    first, second = equal[0], equal[1]
    if first.clap is not None and second.clap is not None and first.clap > second.clap:
        return f"it fits its prompts better (CLAP {first.clap:.3f} against {second.clap:.3f})"
    if (first.adherence or 0.0) > (second.adherence or 0.0):
        return f"it meets tempo and key more often ({first.adherence:.0%})"
    if first.step is not None and second.step is not None and first.step < second.step:
        return f"it was trained for fewer steps ({first.step} against {second.step})"
    return "nothing else tells them apart"


def _warnings(rows: Sequence[Scored], best: Scored) -> list[str]:
    return [text for text in (_overfit(rows, best), _few(rows)) if text]


def _overfit(rows: Sequence[Scored], best: Scored) -> str | None:
    """Later checkpoints that are certainly further away, or whose validation loss rose again."""
    if best.step is None:
        return None
    later = sorted(
        (row for row in rows if row.step is not None and row.step > best.step),
        key=lambda row: row.step or 0,
    )
    limit = best.interval[1] if best.interval else best.fad * _OVERFIT
    worse = [row for row in later if row.fad > limit]
    losses = [
        row
        for row in later
        if row.validation_loss is not None
        and best.validation_loss is not None
        and row.validation_loss > best.validation_loss * _LOSS_RISE
    ]
    if not worse and not losses:
        return None
    parts = []
    if worse:
        parts.append(
            f"FAD rose from {best.fad:.3f} to {worse[-1].fad:.3f} at step {worse[-1].step}"
        )
    if losses:
        parts.append(
            f"the validation loss rose from {best.validation_loss:.4f} to "
            f"{losses[-1].validation_loss:.4f} at step {losses[-1].step}"
        )
    return (
        f"checkpoints after {best.name} over-fit: {' and '.join(parts)}. Take the earlier one, "
        "train on more tracks, or with a lower rank or learning rate."
    )


def _few(rows: Sequence[Scored]) -> str | None:
    counts = {row.n_candidate for row in rows}
    if len(counts) > 1 and max(counts) > 1.2 * min(counts):
        return (
            f"the checkpoints were measured on unequal amounts of audio ({min(counts)} to "
            f"{max(counts)} windows): fewer windows look further away than they are."
        )
    return None


def _shown(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)
