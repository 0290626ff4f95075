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
    check_ignore_class,
    check_num_classes,
    check_numeric,
    is_number,
    is_whole,
)


@pytest.mark.parametrize(
    "value",
    [0, -1.5, np.float32(2), np.int64(3), np.array(0.5), Fraction(1, 3), float("inf")],
)
def test_numbers(value: Any) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [tf.constant(0.5), tf.Variable(0.5)])
def test_tensors_are_numbers(value: Any) -> None:
    assert is_number(value)


@pytest.mark.parametrize(
    "value",
    ["1", b"1", None, True, [1.0], {}, 1j, float("nan"), np.ones(2), 10**400, object()],
)
def test_what_is_no_number(value: Any) -> None:
    assert not is_number(value)


def test_whole_numbers() -> None:
    assert all(map(is_whole, [0, -3, np.uint8(7), 2**70]))
    assert not any(map(is_whole, [1.0, True, "1", None, float("nan"), np.float32(1)]))


@pytest.mark.parametrize("value", ["255", 1.5, [255], True])
def test_void_is_an_integer(value: Any) -> None:
    check_ignore_class(None)
    check_ignore_class(np.int32(-1))
    with pytest.raises(ValueError, match="Expected `ignore_class` to be an integer"):
        check_ignore_class(value)


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, 11])
def test_numbers_of_classes(value: Any) -> None:
    check_num_classes(10, most=10)
    with pytest.raises(ValueError, match=r"Expected `num_classes` in \[1, 10\]"):
        check_num_classes(value, most=10)


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float64", "uint8", "int64", "bool"]
)
def test_arrays_of_numbers(dtype: str) -> None:
    values = tf.cast(tf.zeros(3), dtype)
    check_numeric("y_true", values)
    check_numeric("y_true", values.numpy())
    check_numeric("y_true", [0, 1])  # of lists nothing is said


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
    with pytest.raises(ValueError, match="Expected `y_true` to hold real numbers"):
        check_numeric("y_true", values)


# --- call_with_options ---


def double(value: int, *, times: int = 2) -> int:
    return value * times


def test_passes_arguments_and_options() -> None:
    assert call_with_options("double", double, 3) == 6
    assert call_with_options("double", double, 3, times=5) == 15


def test_unknown_options_raise() -> None:
    with pytest.raises(ValueError, match="Expected options that 'double' takes"):
        call_with_options("double", double, 3, factor=5)


def test_what_is_fixed_is_no_option() -> None:
    triple = partial(double, times=3)
    assert call_with_options("triple", triple, 3) == 9
    with pytest.raises(ValueError, match=r"'triple' takes.*\['times'\] are fixed"):
        call_with_options("triple", triple, 3, times=5)


def test_options_may_be_called_name() -> None:
    def named(value: int, *, name: str) -> str:
        return name * value

    assert call_with_options("named", named, 2, name="x") == "xx"


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
        {"flag": 1},
        {"number": "0.5"},
        {"number": None},
        {"number": float("nan")},
        {"count": 1.5},
        {"count": "3"},
        {"count": True},
    ],
)
def test_options_of_other_types_raise(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be of type"):
        call_with_options("typed", typed, **options)


def test_options_of_their_types_pass() -> None:
    assert call_with_options("typed", typed, flag=True, number=2) == 2
    assert call_with_options("typed", typed, count=3) == 3
    assert call_with_options("typed", typed, count=None) == 0
