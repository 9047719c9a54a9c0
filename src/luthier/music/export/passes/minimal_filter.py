"""Minimal filtering: several outputs of a filter from fewer products than outputs times taps.

F(m, r) of Winograd, "Arithmetic Complexity of Computations" (1980), built as Toom and Cook do: the
product of two polynomials is known from its values at m + r − 1 points. What computes that product
of r taps with m numbers computes, transposed, m outputs of a filter of r taps. Points are small
fractions in pairs ± and p, 1/p, which keeps the error of float32 small (Barabasz et al., "Error
Analysis and Improving the Accuracy of Winograd Convolution", 2020).
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

OUTPUTS, TAPS = 10, 7
POINTS = OUTPUTS + TAPS - 1
# All points but the last, which is infinity.
_FINITE = [Fraction(p) for p in ("0", "1", "-1", "2", "-2", "1/2", "-1/2", "4/3", "-4/3")]
_FINITE += [Fraction(p) for p in ("3/4", "-3/4", "1/4", "-1/4", "4", "-4")]


@cache
def minimal_filter() -> tuple[Matrix, Matrix, Matrix]:
    """Matrices of F(10, 7): spread (16, 16), taps (16, 7) and gather (10, 16).

    Ten outputs of the filter `w` (7,) over sixteen samples `x` are
    gather @ ((taps @ w) * (spread @ x)).
    """
    gather, taps = _powers(OUTPUTS).T, _powers(TAPS)
    spread = _inverse(_powers(POINTS)).T
    matrices = [np.array(m, dtype=np.float64) for m in (spread, taps, gather)]
    return _balanced(*matrices)


def _powers(count: int) -> NDArray[np.object_]:
    """The values of 1, x, x² … at the points; at infinity only the highest counts."""
    rows = [[point**power for power in range(count)] for point in _FINITE]
    rows.append([Fraction(int(power == count - 1)) for power in range(count)])
    return np.array(rows, dtype=object)


def _inverse(matrix: NDArray[np.object_]) -> NDArray[np.object_]:
    """Exact, by Gauss and Jordan."""
    size = len(matrix)
    one = [[Fraction(int(i == j)) for j in range(size)] for i in range(size)]
    work = np.concatenate([matrix, np.array(one, dtype=object)], axis=1)
    for column in range(size):
        pivot = next(row for row in range(column, size) if work[row, column] != 0)
        work[[column, pivot]] = work[[pivot, column]]
        work[column] = work[column] / work[column, column]
        for row in range(size):
            if row != column:
                work[row] = work[row] - work[row, column] * work[column]
    return work[:, size:]


def _balanced(spread: Matrix, taps: Matrix, gather: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Powers of two moved into `taps`, so that a point's values are as large as the samples."""
    rows = 2.0 ** np.round(np.log2(np.linalg.norm(spread, axis=1)))
    columns = 2.0 ** np.round(np.log2(np.linalg.norm(gather, axis=0)))
    return spread / rows[:, None], taps * (rows * columns)[:, None], gather / columns
