"""An evaluation against an earlier one → gates that only a worse value can fail.

luthier evaluate int8-clips/ --reference real/ --baseline fp32.json --tolerance 0.05
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.errors import RequestError
from luthier.evaluation.gates import Gate, Measured, relative_gate
from luthier.music.evaluation.compare import scored
from luthier.music.evaluation.result import Evaluation

_FAD_FLOOR = 0.1  # of the distance between halves of the real tracks
_CLAP_FLOOR = 0.01  # of a cosine
_ADHERENCE_FLOOR = 0.05  # of the requests


def baseline_gates(
    evaluation: Evaluation, baseline: Mapping[str, Any], tolerance: float
) -> tuple[Gate, ...]:
    """Distance, CLAP and adherence of `evaluation`, none worse than `baseline`'s by `tolerance`.

    Args:
        baseline: the JSON object of an earlier evaluation.
        tolerance: share of the baseline's value, e.g. 0.05; every measure has a floor besides.

    Raises:
        RequestError: the baseline is not an evaluation, or was measured in another embedding or
            against other tracks.
    """
    if not tolerance >= 0:
        raise RequestError(f"the tolerance is {tolerance:g}: it is a share, 0 or more.")
    now, before = scored(evaluation.to_json()), scored(baseline)
    if (now.embedding, now.n_reference) != (before.embedding, before.n_reference):
        raise RequestError(
            f"the baseline {before.name} was measured in {before.embedding} against "
            f"{before.n_reference} windows, this in {now.embedding} against {now.n_reference}: "
            "measure both alike."
        )
    gate = next((g for g in evaluation.gates if g.name == "fad"), None)
    unit = gate.raw / gate.value if gate and gate.raw and gate.value else 0.0
    measured = Measured(now.n_candidate, now.embedding)
    gates = [
        relative_gate(
            "fad_against_baseline",
            now.fad,
            before.fad,
            better="lower",
            tolerance=tolerance,
            floor=_FAD_FLOOR * unit,
            measured=measured,
        )
    ]
    for name, value, other, floor in (
        ("clap_against_baseline", now.clap, before.clap, _CLAP_FLOOR),
        ("adherence_against_baseline", now.adherence, before.adherence, _ADHERENCE_FLOOR),
    ):
        if value is not None and other is not None:
            gates.append(
                relative_gate(
                    name,
                    value,
                    other,
                    better="higher",
                    tolerance=tolerance,
                    floor=floor,
                    measured=Measured(len(evaluation.clips)),
                )
            )
    return tuple(gates)
