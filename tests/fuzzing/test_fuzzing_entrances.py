"""A quick sample of the cases of every entrance; `python -m fuzzing` runs thousands."""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest

from fuzzing.__main__ import SHARES
from fuzzing.case import ENTRANCES, execute, make

SEED = 1  # not that of the thousands
SAMPLE = {"losses": 40, "metrics": 40, "loaders": 40, "commands": 30, "models": 30}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_sample_of_cases(entrance: str) -> None:
    failures = {}
    for number in range(SAMPLE[entrance]):
        case = make(entrance, SEED, number)
        outcome = execute(case)
        if outcome.kind == "failure":
            failures[number] = (case.description, outcome.text)
    assert not failures, (
        f"python -m fuzzing --seed {SEED} --only {entrance}: {failures}"
    )


def test_every_entrance_has_its_share() -> None:
    assert SHARES.keys() == ENTRANCES.keys() == SAMPLE.keys()
    assert sum(SHARES.values()) == 100


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_case_is_a_function_of_its_number(entrance: str) -> None:
    first, again = (make(entrance, 3, 17).description for _ in range(2))
    assert first == again
    others = [make(entrance, seed, number) for seed, number in ((3, 18), (4, 17))]
    assert any(other.description != first for other in others)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_modules_say_what_they_do(entrance: str) -> None:
    module = importlib.import_module(ENTRANCES[entrance])
    assert module.__doc__
    assert list(inspect.signature(module.make).parameters) == ["rng"]
    assert module.make(np.random.default_rng(0)).description
