"""A case, how it is made from its number, and what may come of it."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

ENTRANCES = {
    "losses": "fuzzing.losses",
    "metrics": "fuzzing.metrics",
    "loaders": "fuzzing.loaders",
    "commands": "fuzzing.commands",
    "models": "fuzzing.models",
}
"""What is fuzzed, and the module whose `make` makes its cases."""

TYPED_ERRORS = (
    "ValueError",  # and what derives from it here: DataSetError, UnreadableError
    "OSError",  # FileNotFoundError, FileExistsError, NotADirectoryError and so on
    "tensorflow.InvalidArgumentError",  # from inside a graph, or from a decoder
    "ImportError",  # of a library that is optional
    "fuzzing.Refused",  # exit code 1 or 2 of the command, with what it printed
)
"""The errors that are an answer, by name, with those derived from them."""

Expected = Literal["answer", "error", "either"]

T = TypeVar("T")


class Refused(Exception):
    """The command ended with 1, or 2 for its usage, and said why.

    Attributes:
        kind: "exit code 1" or "exit code 2".
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class Case:
    """One use of the package.

    Attributes:
        description: what is done, of JSON's types.
        expected: "answer" where the input is sound, "error" where it is not, "either"
            where damage may or may not have hit what counts.
        act: does it in an empty folder, and returns what came of it.
        check: raises `AssertionError` for a wrong answer.
    """

    description: dict[str, Any]
    expected: Expected
    act: Callable[[Path], Any]
    check: Callable[[Any], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        kind: "right", the name of a typed error, or "failure".
        text: what an error said, or what is wrong.
    """

    kind: str
    text: str = ""


def make(entrance: str, seed: int, number: int) -> Case:
    """Makes a case, which is a function of its entrance, the seed and its number.

    Args:
        entrance: of `ENTRANCES`, or the name of a module with a function `make`.
        seed: of the run, zero or more.
        number: of the case, zero or more.
    """
    module = importlib.import_module(ENTRANCES.get(entrance, entrance))
    rng = np.random.default_rng([seed, zlib.crc32(entrance.encode()), number])
    case: Case = module.make(rng)
    return case


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Returns one of the options, as it is: NumPy's `choice` would convert it."""
    return options[int(rng.integers(len(options)))]


def execute(case: Case) -> Outcome:
    """Runs a case in a folder of its own, and judges what came of it."""
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    try:
        with warnings.catch_warnings():
            # What libraries warn of in damaged files is not the package's word.
            warnings.simplefilter("ignore")
            return _judged(case, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judged(case: Case, folder: Path) -> Outcome:
    try:
        answer = case.act(folder)
    except (Exception, SystemExit) as error:
        return _of_error(case, error)
    if case.expected == "error":
        return Outcome("failure", f"Expected an error. Received: {_short(answer)}")
    try:
        case.check(answer)
    except AssertionError as error:
        return Outcome("failure", f"Expected the right answer. Received: {error}")
    return Outcome("right")


def _of_error(case: Case, error: BaseException) -> Outcome:
    name, text = getattr(error, "kind", type(error).__name__), str(error)
    if not is_typed(error):
        return Outcome("failure", f"Received: {_trace(error)}")
    if case.expected == "answer":
        return Outcome("failure", f"Expected an answer. Received: {_trace(error)}")
    if isinstance(error, ValueError) and not says_what(text):
        return Outcome("failure", f"Expected a reason. Received: {_trace(error)}")
    return Outcome(name, text)


def is_typed(error: BaseException) -> bool:
    """Whether an error is one of `TYPED_ERRORS`."""
    names = {f"{t.__module__.split('.')[0]}.{t.__name__}" for t in type(error).__mro__}
    return any(
        name in names or f"builtins.{name}" in names for name in TYPED_ERRORS
    ) and not isinstance(error, UnicodeError | json.JSONDecodeError)


def says_what(text: str) -> bool:
    """Whether an error says what was expected, and what came instead."""
    return "xpected" in text and "eceived" in text


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-3000:]


def _short(answer: Any) -> str:
    return repr(answer)[:500]
