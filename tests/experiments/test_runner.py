from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from experiments import runner
from experiments.runner import run_sweep
from experiments.sweeps import SWEEPS
from experiments.trials import Trial
from tf_levelset.files import read_json
from tf_levelset.recipes import RECIPES, smoke

TINY = dataclasses.replace(
    smoke(RECIPES["synthetic"]), losses=("ce",), iterations=2, loss_stride=8
)
LEVEL_SET = dataclasses.replace(TINY, losses=("ls",))
TRIALS = [
    Trial("start", TINY),
    Trial("ce", TINY, start="start"),
    Trial("ls", LEVEL_SET, start="start"),
]


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_sweeps_are_sound(name: str) -> None:
    trials = SWEEPS[name]()
    runner.check(trials)
    # A pair differs in its losses and what belongs to them alone.
    for trial in trials:
        assert trial.recipe.dataset == "camvid"


def test_a_recipe_of_several_losses_raises() -> None:
    with pytest.raises(ValueError, match="a recipe with one loss"):
        Trial("both", dataclasses.replace(TINY, losses=("ce", "ls")))


def test_a_sweep_in_disorder_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two 'start-official-0'"):
        run_sweep([TRIALS[0], TRIALS[0]], tmp_path, tmp_path, None)
    with pytest.raises(ValueError, match="'start-official-0' before 'ce-official-0'"):
        run_sweep([TRIALS[1]], tmp_path, tmp_path, None)


def test_a_sweep_is_run_written_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, scratch = tmp_path / "results", tmp_path / "scratch"
    run_sweep(TRIALS[:2], results, scratch, None)
    first = read_json(results / "ce-official-0.json")
    assert (first["arm"], first["fold"], first["seed"]) == ("ce", "official", 0)
    assert first["recipe"] == TINY.to_json()
    assert first["history"][-1]["step"] == 2
    assert 0 <= first["evaluation"]["mean_iou"] <= 1
    # Of the runs' own files only the start's model is left.
    assert [p.name for p in scratch.rglob("*") if p.is_file()] == ["model.keras"]

    made: list[str] = []
    run_trial = runner.run_trial

    def noted(trial: Trial, *arguments: object) -> object:
        made.append(trial.name)
        return run_trial(trial, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "run_trial", noted)
    run_sweep(TRIALS, results, scratch, None)
    assert made == ["ls-official-0"]
    # A start whose model is gone is made again for what begins with it, not else.
    (scratch / "start-official-0" / "model.keras").unlink()
    run_sweep(TRIALS, results, scratch, None)
    assert made == ["ls-official-0"]
    (results / "ls-official-0.json").unlink()
    run_sweep(TRIALS, results, scratch, None)
    assert made == ["ls-official-0", "start-official-0", "ls-official-0"]


def test_runs_begin_with_their_start_and_see_the_same_pictures(tmp_path: Path) -> None:
    # At a rate of next to nothing all arms end where they begin: at the start's model.
    still = [
        dataclasses.replace(
            t, recipe=dataclasses.replace(t.recipe, learning_rate=1e-12)
        )
        for t in TRIALS[1:]
    ]
    run_sweep([TRIALS[0], *still], tmp_path / "results", tmp_path / "scratch", None)
    ce, ls = (read_json(tmp_path / f"results/{t.name}.json") for t in still)
    np.testing.assert_allclose(
        ce["evaluation"]["level_set_energy"], ls["evaluation"]["level_set_energy"]
    )
