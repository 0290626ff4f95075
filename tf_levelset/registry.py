"""Calling functions by a name that a user gave."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


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
        ValueError: for options that the function does not take.
    """
    try:
        inspect.signature(function).bind(*arguments, **options)
        fixed = sorted(set(getattr(function, "keywords", ())) & set(options))
        if fixed:
            raise TypeError(f"{fixed} are fixed")
    except TypeError as error:
        raise ValueError(
            f"Expected options that {name!r} takes. Received: {options!r} ({error})"
        ) from None
    return function(*arguments, **options)
