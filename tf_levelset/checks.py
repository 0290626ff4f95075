"""Options as plain Python values, checks, and what the errors of libraries say.

TensorFlow is not loaded with this file, because the command line checks options too.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import math
import numbers
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


def plain_options(target: T) -> T:
    """Makes a function or a class take NumPy's numbers wherever it takes Python's.

    NumPy's integers overflow, and JSON cannot hold them. So `plain` converts all
    arguments but those annotated as arrays or tensors. Those annotated as bool must be
    True or False.
    """
    if isinstance(target, type):
        target.__init__ = plain_options(target.__init__)  # type: ignore[misc]
        return target
    signature = inspect.signature(target)
    kinds = {name: str(p.annotation) for name, p in signature.parameters.items()}

    @functools.wraps(target)
    def with_plain_options(*arguments: Any, **options: Any) -> Any:
        bound = signature.bind(*arguments, **options)
        for name, value in bound.arguments.items():
            if not any(data in kinds[name] for data in ("Array", "ndarray", "Tensor")):
                bound.arguments[name] = plain(value)
            if kinds[name] == "bool":
                check_bool(**{name: bound.arguments[name]})
        return target(*bound.args, **bound.kwargs)

    # Keras reads this, and does not look through the wrapper.
    with_plain_options.__signature__ = signature  # type: ignore[attr-defined]
    return with_plain_options  # type: ignore[return-value]


def plain(value: Any) -> Any:
    """Returns NumPy's numbers and arrays, and constant tensors, as Python's.

    Lists, tuples and dictionaries are searched for them, and anything else, such as a
    variable, is returned as it is.
    """
    if hasattr(value, "numpy") and not hasattr(value, "assign"):
        value = value.numpy()
    np = sys.modules.get("numpy")  # Where it is not loaded, it has made no number.
    if np is not None and isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
        if isinstance(value, np.longdouble):
            return float(value)
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {plain(key): plain(each) for key, each in value.items()}
    return value


def is_number(value: Any) -> bool:
    """Returns whether a value is a real number, or a scalar tensor, and not NaN."""
    value = plain(value)
    if isinstance(value, str | bytes | bool):
        return False
    try:
        return not math.isnan(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def is_whole(value: Any) -> bool:
    """Returns whether a value is an integer of Python or NumPy."""
    value = plain(value)
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def expect(holds: bool, expected: str, received: Any) -> None:
    """Raises `ValueError` unless a condition holds.

    Args:
        holds: The condition.
        expected: What was expected, such as "`size` to be odd".
        received: The value that was given instead.
    """
    if not holds:
        raise ValueError(f"Expected {expected}. Received: {received!r}")


def check_positive(**options: Any) -> None:
    """Raises `ValueError` for options that are not finite numbers above zero."""
    for name, value in options.items():
        holds = is_number(value) and 0 < value < math.inf
        expect(holds, f"`{name}` to be positive and finite", value)


def check_not_negative(**options: Any) -> None:
    """Raises `ValueError` for options that are not finite numbers of zero or more."""
    for name, value in options.items():
        holds = is_number(value) and 0 <= value < math.inf
        expect(holds, f"`{name}` to be a finite number of zero or more", value)


def check_bool(**options: Any) -> None:
    """Raises `ValueError` for options that are not True or False, such as strings."""
    for name, value in options.items():
        expect(isinstance(value, bool), f"`{name}` to be True or False", value)


def check_ignore_class(ignore_class: Any) -> None:
    """Raises `ValueError` unless the label of void is an integer or None."""
    holds = ignore_class is None or is_whole(ignore_class)
    expect(holds, "`ignore_class` to be an integer or None", ignore_class)


def check_num_classes(num_classes: Any, most: float = math.inf) -> None:
    """Raises `ValueError` unless `num_classes` is an integer from 1 to `most`."""
    bound = ">= 1" if most == math.inf else f"in [1, {most}]"
    holds = is_whole(num_classes) and 1 <= num_classes <= most
    expect(holds, f"`num_classes` {bound}", num_classes)


def class_weights(class_weight: Any) -> tuple[float, ...] | None:
    """Returns one weight per class as floats, or None.

    Raises:
        ValueError: Unless the weights are a sequence of finite numbers of zero or
            more.
    """
    if class_weight is None:
        return None
    expected = "`class_weight` to be finite numbers of zero or more, one per class"
    expect(
        isinstance(class_weight, Iterable) and not isinstance(class_weight, Mapping),
        expected,
        class_weight,
    )
    weights = list(class_weight)
    holds = all(is_number(w) and 0 <= w < math.inf for w in weights)
    expect(holds, expected, class_weight)
    return tuple(float(w) for w in weights)


def check_one_weight_per_class(
    class_weight: Sequence[float] | None, num_classes: int
) -> None:
    """Raises `ValueError` unless there are as many weights as classes, or none."""
    holds = class_weight is None or len(class_weight) == num_classes
    expected = f"`class_weight` to hold {num_classes} numbers, one per class"
    expect(holds, expected, class_weight)


def check_numeric(name: str, values: Any) -> None:
    """Raises `ValueError` for an array of strings, complex numbers or objects.

    A cast would raise another error, or drop the imaginary parts.

    Args:
        name: Name of the argument.
        values: An array or a tensor. Anything without a `dtype` is accepted.
    """
    import tensorflow as tf

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


_TYPE_CHECKS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": is_whole,
    "float": is_number,
    "str": lambda value: isinstance(value, str),
}
"""Annotations that are checked. Without a check, the string "False" would be true."""


def call_with_options(
    name: str, function: Callable[..., Any], /, *arguments: Any, **options: Any
) -> Any:
    """Calls a function with options that a user wrote.

    Args:
        name: The name of the function for the error message.
        function: The function. Arguments that a `functools.partial` sets cannot be
            given again as options.
        *arguments: Its positional arguments.
        **options: The user's options.

    Returns:
        What the function returns.

    Raises:
        ValueError: For an option that the function does not take, or whose type
            differs from its annotation.
    """
    options = plain(options)
    try:
        signature = inspect.signature(function)
        signature.bind(*arguments, **options)
        fixed = sorted(set(getattr(function, "keywords", ())) & set(options))
        if fixed:
            raise TypeError(f"{fixed} are fixed")
        for option, value in options.items():
            _check_type(signature, option, value)
    except TypeError as error:
        raise ValueError(
            f"Expected options that {name!r} takes. Received: {options!r} ({error})"
        ) from None
    return function(*arguments, **options)


def _check_type(signature: inspect.Signature, option: str, value: Any) -> None:
    """Raises `TypeError` for an option whose type differs from its annotation."""
    if option not in signature.parameters:
        return  # It is one of `**options`.
    annotation = str(signature.parameters[option].annotation)
    name, optional, _ = annotation.partition(" | None")
    if name not in _TYPE_CHECKS or (optional and value is None):
        return
    if not _TYPE_CHECKS[name](value):
        raise TypeError(f"{option} must be of type {annotation}")


# --- Errors of libraries ---
#
# TensorFlow and Keras put names of nodes, stack traces and colour codes around the
# reason of an error.

_MARKS = re.compile(
    r"\x1b\[[0-9;]*m"  # colours of Keras
    r"|\[*\{\{(function_)?node [^}]*\}\}\]*"
    r"|\[Op:[^\]]*\]( name:.*)?"
    r"|Error in user-defined function passed to .* with iterator: \S+:"
)
"""What TensorFlow and Keras add within a line."""

_FRAMES = re.compile(r'^([ \t]*)File ".*\n(\1[ \t]+.*\n|\s*\n)*', re.MULTILINE)
"""The lines of a stack trace, each followed by more deeply indented source code."""

_HEADINGS = (
    *("Graph execution error", "Detected at node", "Node: ", "in user code:"),
    *("Traceback (most", "Exception encountered when calling", "2 root error"),
)
"""Starts of lines before the reason of an error."""

_KIND = re.compile(r"^(\(\d+\) )?([A-Z_]+: +|[\w.]+(Error|Exception): )?")
"""The type of an error before its reason, as in "(0) INVALID_ARGUMENT: "."""

_MEMORY = re.compile("OOM when|[Oo]ut of memory|(Failed|failed|Unable) to allocate")


def reason(error: BaseException) -> str:
    """Returns the line of an error that says what is wrong.

    Args:
        error: An error of any library. Where its text holds one of this package's
            sentences, "Expected …. Received: …", because it was raised inside a graph,
            that sentence is returned.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = _text(error)
    asserted = re.search(r"assertion failed: \[(Expected .*)\]", text)
    if asserted:  # in a graph, which shows each of its data in brackets
        text = asserted[1].replace("] [", " ")
    own = re.search(r"Expected .*Received:.*", text)
    if own:
        return own[0].rstrip()
    lines = (line.strip() for line in _FRAMES.sub("", f"{text}\n").splitlines())
    told = (_KIND.sub("", line) for line in lines)
    reasons = (line for line in told if line and not line.startswith(_HEADINGS))
    return next(reasons, type(error).__name__)


def sentence(error: BaseException) -> str:
    """Returns the sentence to print for an error that stops a command."""
    text, why = _text(error).strip(), reason(error)
    if text.startswith("Expected"):
        return text
    if is_lack_of_memory(error):
        return (
            f"Expected enough free memory. Received: too little ({why}). Train with a "
            "smaller --batch-size or --crop; predict in tiles with --tile."
        )
    if isinstance(error, UnicodeEncodeError):
        return f"Expected names that are UTF-8 text. Received: {error.object!r}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"Expected to read or write {error.filename}. Received: {why}"
    if why.startswith("Expected") or isinstance(error, ImportError):
        return why
    return f"Expected TensorFlow to run with this model and these data. Received: {why}"


def is_lack_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory could not be allocated."""
    return isinstance(error, MemoryError) or bool(_MEMORY.search(str(error)))


@contextlib.contextmanager
def noting(faults: list[str]) -> Iterator[None]:
    """Around the reading of one file of several, appends what is wrong to a list."""
    try:
        yield
    except (ValueError, OSError) as error:
        faults.append(sentence(error))


def optional_library(module: str, packages: str) -> Any:
    """Imports a library that only some functions need.

    Args:
        module: The module to import.
        packages: The packages to install, as for `pip install`.

    Raises:
        ImportError: If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"Expected the module {module}, which pip install {packages} installs. "
            f"Received: {error}"
        ) from error


def _text(error: BaseException) -> str:
    return _MARKS.sub("", str(getattr(error, "message", None) or error))
