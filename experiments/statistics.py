"""Paired differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

Pair = TypeVar("Pair", bound=Hashable)


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences with the 95 % interval of Student's t.

    Attributes:
        values: The difference of each pair.
        mean: The mean of the differences.
        half_width: Half the width of the interval; infinite for a single pair.
    """

    values: tuple[float, ...]
    mean: float
    half_width: float

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the interval."""
        return self.mean - self.half_width, self.mean + self.half_width

    @property
    def p_value(self) -> float:
        """P of the two-sided t test that the mean is zero; 1 for a single value."""
        if len(self.values) < 2:
            return 1.0
        if self.half_width == 0:
            return float(self.mean == 0)
        degrees = len(self.values) - 1
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))
        return float(
            2 * stats.t.sf(abs(self.mean) * quantile / self.half_width, degrees)
        )


def paired_difference(
    ours: Mapping[Pair, float], theirs: Mapping[Pair, float]
) -> Difference:
    """Compares two configurations on the pairs that both have.

    Args:
        ours: A score by pair, such as fold and seed.
        theirs: The same of the other configuration.

    Returns:
        Ours − theirs.

    Raises:
        ValueError: If they have no pair in common.
    """
    common = [pair for pair in ours if pair in theirs]
    if not common:
        raise ValueError(
            f"Expected a pair that both have. Received: {sorted(map(str, ours))} "
            f"and {sorted(map(str, theirs))}"
        )
    return mean_with_interval([ours[pair] - theirs[pair] for pair in common])


def mean_with_interval(values: Sequence[float]) -> Difference:
    """Returns the mean of independent values with its 95 % interval."""
    count = len(values)
    half_width = math.inf
    if count > 1:
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
        half_width = quantile * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Difference(tuple(values), float(np.mean(values)), half_width)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects the p values of several tests for their number (Holm 1979).

    Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Args:
        p_values: The values, in [0, 1].

    Returns:
        Those corrected, in the same order, in [0, 1].
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
