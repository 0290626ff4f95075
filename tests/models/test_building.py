"""What every net begins and ends with, and multipliers of width and depth."""

from __future__ import annotations

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_tester import TINY

from tf_levelset.models import at_input_size, create_model, output_stride
from tf_levelset.models.building import scaled_depth, scaled_filters


@given(count=st.integers(1, 4096), multiplier=st.floats(1e-6, 100))
def test_is_the_nearest_number_and_at_least_one(count: int, multiplier: float) -> None:
    for scaled in (scaled_filters, scaled_depth):
        assert scaled(count, 1.0) == count
        result = scaled(count, multiplier)
        assert result >= 1
        assert abs(result - max(1, count * multiplier)) <= 0.5


def test_models_of_others_have_no_output_stride() -> None:
    x = keras.Input((None, None, 3), name="images")
    for model in (
        keras.Model(x, keras.layers.Conv2D(3, 1)(x)),
        keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)]),
        create_model("deeplab_largefov", 3, **TINY),
    ):
        for function in (output_stride, at_input_size):
            with pytest.raises(ValueError, match=r"Expected a net .*upsample=False.*"):
                function(model)
