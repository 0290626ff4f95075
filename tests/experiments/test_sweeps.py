"""What was chosen, held against the results it was chosen by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from experiments import report
from experiments.document import read_all, tuning_gains, tuning_trials
from experiments.sweeps import CHOSEN, SWEEPS, frozen, with_loss
from tf_levelset.files import read_json
from tf_levelset.training.recipe import Recipe

RESULTS = Path(report.__file__).parent / "results"


@pytest.mark.parametrize("name", sorted(CHOSEN))
def test_the_best_of_its_trials_is_chosen(name: str) -> None:
    gains = tuning_gains(read_all(RESULTS))
    trials = [trial for trial in tuning_trials(name) if trial.arm in gains]
    assert len(trials) > 1
    best = max(trials, key=lambda trial: gains[trial.arm].mean).recipe
    (loss, options), rate = CHOSEN[name]
    assert with_loss(best, loss, options) == best
    assert best.learning_rate == rate


def test_the_frozen_recipes_are_what_the_official_pairs_ran() -> None:
    folder = RESULTS.parent / "frozen"
    assert sorted(path.stem for path in folder.glob("*.json")) == sorted(frozen())
    trials = {trial.name: trial for trial in SWEEPS["official"]()}
    for name, recipe in frozen().items():
        assert Recipe.from_json(read_json(folder / f"{name}.json")) == recipe
        trial = trials["ce-official-0" if name == "start" else f"{name}-official-0"]
        ran = trial.start if name == "start" else trial
        assert ran is not None
        assert dataclasses.replace(recipe, name="") == ran.recipe
