"""What options and arrays are, told without an error of Python's own."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def is_number(value: Any) -> bool:
    """Whether a value is a real number or a scalar that holds one, and not NaN."""
    if isinstance(value, str | bytes | bool):
        return False
    try:
        return not math.isnan(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, of Python's or NumPy's."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_bool(**options: Any) -> None:
    """Raises `ValueError` for options that are not True or False: texts, say."""
    for name, value in options.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(
                f"Expected `{name}` to be True or False. Received: {value!r}"
            )


def check_ignore_class(ignore_class: Any) -> None:
    """Raises `ValueError` unless the label of void is an integer or None."""
    if ignore_class is not None and not is_whole(ignore_class):
        raise ValueError(
            f"Expected `ignore_class` to be an integer or None. Received: "
            f"{ignore_class!r}"
        )


def check_num_classes(num_classes: Any, most: float = math.inf) -> None:
    """Raises `ValueError` unless it is a number of classes, at most so many."""
    if not (is_whole(num_classes) and 1 <= num_classes <= most):
        bound = ">= 1" if most == math.inf else f"in [1, {most}]"
        raise ValueError(f"Expected `num_classes` {bound}. Received: {num_classes!r}")


def check_numeric(name: str, values: Any) -> None:
    """Raises `ValueError` for an array of text, complex numbers or other things.

    Casts would fail with another error, or drop the imaginary parts.

    Args:
        name: of the argument.
        values: what has a `dtype`; of other things nothing is said.
    """
    if not hasattr(values, "dtype"):
        return
    try:
        dtype = tf.as_dtype(values.dtype)
        numeric = dtype.is_floating or dtype.is_integer or dtype.is_bool
    except TypeError:
        numeric = False
    if not numeric:
        raise ValueError(
            f"Expected `{name}` to hold real numbers. Received: dtype {values.dtype}"
        )


_KINDS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": is_whole,
    "float": is_number,
    "str": lambda value: isinstance(value, str),
}
"""Annotations that options are held to: "False", a text, would pass for true."""


def call_with_options(
    name: str, function: Callable[..., Any], /, *arguments: Any, **options: Any
) -> Any:
    """Calls a function with a user's options.

    Args:
        name: what the user calls the function.
        function: what to call. What a `functools.partial` fixes is no option.
        *arguments: its positional arguments.
        **options: the user's.

    Raises:
        ValueError: for options that the function does not take, or not of such a type.
    """
    try:
        signature = inspect.signature(function)
        signature.bind(*arguments, **options)
        fixed = sorted(set(getattr(function, "keywords", ())) & set(options))
        if fixed:
            raise TypeError(f"{fixed} are fixed")
        for option, value in options.items():
            _check_kind(signature, option, value)
    except TypeError as error:
        raise ValueError(
            f"Expected options that {name!r} takes. Received: {options!r} ({error})"
        ) from None
    return function(*arguments, **options)


def _check_kind(signature: inspect.Signature, option: str, value: Any) -> None:
    """Raises `TypeError` for an option of another type than its annotation says."""
    if option not in signature.parameters:
        return  # one of `**options`
    annotation = str(signature.parameters[option].annotation)
    kind, optional, _ = annotation.partition(" | None")
    if kind in _KINDS and not (_KINDS[kind](value) or (optional and value is None)):
        raise TypeError(f"{option} is to be of type {annotation}")
