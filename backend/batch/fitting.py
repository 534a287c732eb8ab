"""Least squares that are drawn towards zero (ridge), for rows of zeros and ones. RULE: arithmetic.

In: which columns each row has, what it says, and how much it counts. Out: one number per column. A dozen columns and half a year of days
take a few milliseconds, which is why no library of numbers is asked.
"""

from __future__ import annotations

from collections.abc import Sequence


def fitted(rows: Sequence[tuple[Sequence[int], float]], weights: Sequence[float], stiffness: Sequence[float]) -> list[float]:
    """The coefficients. `stiffness`, one > 0 per column: the weight of a row that says 0 of that column alone."""
    size = len(stiffness)
    normal = [[stiffness[row] if row == column else 0.0 for column in range(size)] for row in range(size)]
    right = [0.0] * size
    for (columns, said), weight in zip(rows, weights, strict=True):
        for one in columns:
            right[one] += weight * said
            for other in columns:
                normal[one][other] += weight
    return _solved(normal, right)


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """By elimination; the matrix is symmetric and positive, so no row needs to change places."""
    size = len(right)
    for pivot in range(size):
        for row in range(pivot + 1, size):
            share = matrix[row][pivot] / matrix[pivot][pivot]
            if share:
                matrix[row] = [value - share * above for value, above in zip(matrix[row], matrix[pivot], strict=True)]
                right[row] -= share * right[pivot]
    found = [0.0] * size
    for row in reversed(range(size)):
        found[row] = (right[row] - sum(matrix[row][column] * found[column] for column in range(row + 1, size))) / matrix[row][row]
    return found
