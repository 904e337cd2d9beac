"""How time grows with size: exponents by least squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
LEAST_SIZES = 3
"""Two sizes always lie on a line; with a fixed cost beside the line, three are the least."""


def power(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Factor and exponent of seconds = factor · size^exponent, by least squares on logarithms."""
    exponent, intercept = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return float(np.exp(intercept)), float(exponent)


def power_beyond_fixed(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Fixed cost, factor and exponent of seconds = fixed + factor · size^exponent: the fixed cost that leaves the least error."""
    found = np.asarray(seconds, np.float64)
    candidates: Vector = np.linspace(0.0, 0.995, 400) * found.min()

    def error(fixed: float) -> float:
        factor, exponent = power(sizes, list(found - fixed))
        fitted = fixed + factor * np.asarray(sizes, np.float64) ** exponent
        return float(np.square(np.log(fitted / found)).sum())

    fixed = float(min(candidates, key=error))
    return fixed, *power(sizes, list(found - fixed))
