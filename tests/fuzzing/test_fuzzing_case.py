"""What counts as an answer, as an error that says why, and as a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fuzzing.case import Case, Expected, Refused, execute, pick
from tf_levelset.datasets.files.faults import DataSetError, Fault, MissingFilesError

GOOD = "Expected this. Received: that"


def outcome_of(
    act: Callable[[Path], Any], expected: Expected = "either", right: bool = True
) -> tuple[str, str]:
    def check(answer: Any) -> None:
        if not right:
            raise AssertionError("another answer")

    outcome = execute(Case({}, expected, act, check))
    return outcome.kind, outcome.text


def raising(error: BaseException) -> Callable[[Path], Any]:
    def act(folder: Path) -> Any:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError(GOOD), "ValueError"),
        (DataSetError("x", [Fault("p", "m")]), "DataSetError"),
        (MissingFilesError("x", [Fault("p", "m")]), "MissingFilesError"),
        (FileNotFoundError(2, "No such file", "x"), "FileNotFoundError"),
        (tf.errors.InvalidArgumentError(None, None, "x"), "InvalidArgumentError"),
        (ImportError("x"), "ImportError"),
        (Refused("exit code 2", "x"), "exit code 2"),
    ],
)
def test_typed_errors(error: BaseException, kind: str) -> None:
    assert outcome_of(raising(error))[0] == kind
    assert outcome_of(raising(error), "error")[0] == kind
    # Where an answer was due, none of them is one.
    assert outcome_of(raising(error), "answer")[0] == "failure"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("invalid literal"),
        TypeError(GOOD),
        KeyError("x"),
        MemoryError(),
        RuntimeError(GOOD),
        SystemExit(1),
        tf.errors.UnknownError(None, None, GOOD),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, GOOD),
        json.JSONDecodeError(GOOD, "", 0),
    ],
)
def test_other_errors_are_failures(error: BaseException) -> None:
    kind, text = outcome_of(raising(error))
    assert kind == "failure"
    assert type(error).__name__ in text


def test_answers() -> None:
    assert outcome_of(lambda folder: 3, "answer") == ("right", "")
    assert outcome_of(lambda folder: 3) == ("right", "")
    kind, text = outcome_of(lambda folder: 3, right=False)
    assert (kind, text) == (
        "failure",
        "Expected the right answer. Received: another answer",
    )
    kind, text = outcome_of(lambda folder: 3, "error")
    assert (kind, text) == ("failure", "Expected an error. Received: 3")


def test_a_case_has_an_empty_folder_that_does_not_stay() -> None:
    seen: list[Path] = []

    def act(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        seen.append(folder)

    assert outcome_of(act)[0] == "right"
    assert not seen[0].exists()


def test_picks_are_left_as_they_are() -> None:
    options = [None, "a", [1]]
    picked = [pick(np.random.default_rng(seed), options) for seed in range(20)]
    assert all(any(value is option for option in options) for value in picked)
    assert len({str(value) for value in picked}) == 3
