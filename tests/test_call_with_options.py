"""Options by name: a wrong one is the caller's error, one inside is not."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tf_levelset.checks import call_with_options


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
