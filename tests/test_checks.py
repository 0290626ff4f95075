"""What counts as a number, and how a user's options reach a function."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.checks import (
    call_with_options,
    check_numeric,
    is_number,
    is_whole,
)


@pytest.mark.parametrize(
    "value", [0, -1.5, np.float32(2), np.int64(3), Fraction(1, 3), float("inf")]
)
def test_numbers(value: Any) -> None:
    for number in (value, np.array(float(value)), tf.constant(float(value))):
        assert is_number(number)


@pytest.mark.parametrize(
    "value",
    ["1", b"1", None, True, [1.0], {}, 1j, float("nan"), np.ones(2), 10**400, object()],
)
def test_what_is_no_number(value: Any) -> None:
    assert not is_number(value)


def test_whole_numbers() -> None:
    assert all(map(is_whole, [0, -3, np.uint8(7), 2**70]))
    assert not any(map(is_whole, [1.0, True, "1", None, float("nan"), np.float32(1)]))


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a"]),
        np.array([1j]),
        np.array([None]),
        np.array(["2020-01-01"], "datetime64[D]"),
        tf.constant(["a"]),
    ],
)
def test_arrays_of_other_things(values: Any) -> None:
    for dtype in ("float16", "bfloat16", "uint8", "int64", "bool"):
        check_numeric("y_true", tf.cast(tf.zeros(3), dtype))
        check_numeric("y_true", tf.cast(tf.zeros(3), dtype).numpy())
    check_numeric("y_true", [0, 1])  # lists are not looked into
    with pytest.raises(ValueError, match="Expected `y_true` to hold real numbers"):
        check_numeric("y_true", values)


# --- call_with_options ---


def double(value: int, *, times: int = 2) -> int:
    return value * times


def test_passes_the_options_that_the_function_takes() -> None:
    assert call_with_options("double", double, 3) == 6
    assert call_with_options("double", double, 3, times=5) == 15
    with pytest.raises(ValueError, match="Expected options that 'double' takes"):
        call_with_options("double", double, 3, factor=5)


def test_what_is_fixed_is_no_option() -> None:
    triple = partial(double, times=3)
    assert call_with_options("triple", triple, 3) == 9
    with pytest.raises(ValueError, match=r"'triple' takes.*\['times'\] are fixed"):
        call_with_options("triple", triple, 3, times=5)


def test_errors_inside_are_left_as_they_are() -> None:
    def broken() -> None:
        raise TypeError("inside")

    with pytest.raises(TypeError, match="inside"):
        call_with_options("broken", broken)


def typed(flag: bool = False, number: float = 0.5, count: int | None = None) -> float:
    return number if flag else float(count or 0)


@pytest.mark.parametrize(
    "options",
    [
        {"flag": "False"},  # a text that would pass for true
        {"number": "0.5"},
        {"number": float("nan")},
        {"count": True},
    ],
)
def test_options_have_the_annotated_types(options: dict[str, Any]) -> None:
    assert call_with_options("typed", typed, flag=True, number=2) == 2
    assert call_with_options("typed", typed, count=3) == 3
    assert call_with_options("typed", typed, count=None) == 0
    with pytest.raises(ValueError, match="must be of type"):
        call_with_options("typed", typed, **options)
