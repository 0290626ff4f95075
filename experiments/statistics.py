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
    """The mean of paired differences, and Student's interval around it.

    Attributes:
        values: the differences, pair by pair.
        mean: of them.
        half_width: of the 95 % interval; infinite for a single pair.
    """

    values: tuple[float, ...]
    mean: float
    half_width: float

    @property
    def interval(self) -> tuple[float, float]:
        """Its ends."""
        return self.mean - self.half_width, self.mean + self.half_width


def paired_difference(
    ours: Mapping[Pair, float], theirs: Mapping[Pair, float]
) -> Difference:
    """Compares two arms on the pairs that both have.

    Args:
        ours: a figure by pair, such as fold and seed.
        theirs: the same of the other arm.

    Returns:
        Ours − theirs.

    Raises:
        ValueError: if no pair is common to both.
    """
    common = [pair for pair in ours if pair in theirs]
    if not common:
        raise ValueError(
            f"Expected a pair that both arms have. Received: {sorted(map(str, ours))} "
            f"and {sorted(map(str, theirs))}"
        )
    return mean_with_interval([ours[pair] - theirs[pair] for pair in common])


def mean_with_interval(values: Sequence[float]) -> Difference:
    """The mean of independent values with Student's 95 % interval."""
    count = len(values)
    half_width = math.inf
    if count > 1:
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
        half_width = quantile * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Difference(tuple(values), float(np.mean(values)), half_width)
