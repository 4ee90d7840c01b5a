"""Near-minimax polynomials of the cpu backend's vmath.py, printed as they stand there.

``python tools/polynomials.py``. Each is a least squares fit in a polynomial's values at Chebyshev nodes whose weights are
iterated after Lawson, so that the largest relative error of the whole function falls to about that of the best
polynomial; mpmath gives the function to be fitted, and the coefficients are rounded one after the other, the rest fitted
again to what is left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import mpmath
import numpy as np

mpmath.mp.prec = 120
NODES, ROUNDS = 400, 60


def fitted(
    function: Callable[[mpmath.mpf], mpmath.mpf], weight: Callable[[mpmath.mpf], mpmath.mpf], low: float, high: float, count: int,
    round_to: type = np.float32,
) -> list[float]:  # fmt: skip
    """`count` coefficients, lowest first, of function(w) for low <= w <= high; the error is measured times weight(w)."""
    nodes = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    values = np.array([float(function(mpmath.mpf(w))) for w in nodes])
    scale = np.array([float(weight(mpmath.mpf(w))) for w in nodes])
    coefficients: list[float] = []
    for number in range(count):
        left = values - sum(c * nodes**i for i, c in enumerate(coefficients))
        powers = nodes[:, None] ** np.arange(number, count)
        lawson = np.ones(NODES)
        best, least = np.zeros(count - number), np.inf
        for _ in range(ROUNDS):
            row = (scale * np.sqrt(lawson))[:, None]
            found, *_ = np.linalg.lstsq(powers * row, left * row[:, 0], rcond=None)
            error = np.abs((powers @ found - left) * scale)
            if error.max() < least:
                best, least = found, error.max()
            lawson *= error
            lawson /= lawson.mean()
        coefficients.append(float(round_to(best[0])))
    return coefficients


def _sine(w: mpmath.mpf) -> mpmath.mpf:
    """(sin(r) / r - 1) / w with w = r^2."""
    r = mpmath.sqrt(w)
    return (mpmath.sin(r) / r - 1) / w if w else mpmath.mpf(-1) / 6


def _cosine(w: mpmath.mpf) -> mpmath.mpf:
    """(cos(r) - 1 + w / 2) / w^2 with w = r^2."""
    return (mpmath.cos(mpmath.sqrt(w)) - 1 + w / 2) / w**2 if w else mpmath.mpf(1) / 24


HIGH = float((mpmath.pi / 4 * mpmath.mpf(1.01)) ** 2)  # an angle is reduced to half a quarter turn, nearly
TABLES: dict[str, Callable[[], list[float]]] = {
    "SIN_F": lambda: fitted(_sine, lambda w: w, 1e-6, HIGH, 3),
    "COS_F": lambda: fitted(_cosine, lambda w: w**2, 1e-6, HIGH, 3),
}


def main() -> None:
    """Print every table, and the parts of constants that are kept in two or three."""
    for name, fit in TABLES.items():
        sys.stdout.write(f"{name} = {fit()}\n")
    for name, value, parts in (
        ("LOG2E_F", 1 / mpmath.log(2), 2),
        ("HALF_PI_F", mpmath.pi / 2, 3),
    ):
        left, found = value, []
        for _ in range(parts):
            found.append(float(np.float32(float(left))))
            left -= mpmath.mpf(found[-1])
        sys.stdout.write(f"{name} = {found}\n")


if __name__ == "__main__":
    main()
