"""Calling functions by a name that a user gave."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tf_levelset.checks import is_number, is_whole

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
