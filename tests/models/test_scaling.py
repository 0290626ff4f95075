"""Multipliers of widths and depths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_levelset.models.building import scaled_depth, scaled_filters


@given(count=st.integers(1, 4096), multiplier=st.floats(1e-6, 100))
def test_is_the_nearest_number_and_at_least_one(count: int, multiplier: float) -> None:
    for scaled in (scaled_filters, scaled_depth):
        assert scaled(count, 1.0) == count
        result = scaled(count, multiplier)
        assert result >= 1
        assert abs(result - max(1, count * multiplier)) <= 0.5


@pytest.mark.parametrize(
    "multiplier", [0.0, -1.0, float("inf"), float("nan"), "1", None, [1.0]]
)
def test_bad_multipliers_raise(multiplier: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected `width` .* Received"):
        scaled_filters(64, multiplier)
    with pytest.raises(ValueError, match=r"Expected `depth` .* Received"):
        scaled_depth(3, multiplier)
