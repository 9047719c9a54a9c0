"""The mix of tasks that a run trains: weights from its settings, which must not cost torch."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.errors import RequestError
from luthier.music.templates import TASKS

STEM_TASKS = ("extract", "lego", "complete")


def task_weights(tasks: Sequence[str]) -> dict[str, float]:
    """ "repaint:2" and the like → weight by task; without a number the weight is 1.

    Raises:
        RequestError: an unknown task, or a weight that is none.
    """
    weights: dict[str, float] = {}
    for word in tasks:
        name, _, number = word.partition(":")
        if name not in TASKS:
            raise RequestError(f"tasks names {name!r}: there are {', '.join(TASKS)}.")
        try:
            weights[name] = float(number or 1)
        except ValueError:
            raise RequestError(f"tasks gives {name} the weight {number!r}: a number.") from None
        if not 0 < weights[name] < float("inf"):
            raise RequestError(f"tasks gives {name} the weight {number}: it must be above 0.")
    return weights
