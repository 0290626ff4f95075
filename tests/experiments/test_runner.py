from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from experiments import runner
from experiments.runner import run_sweep
from experiments.sweeps import BASELINES, BORROWED, RATE, SLOWER_CE, SWEEPS
from experiments.trials import Trial
from tf_levelset.datasets import load_dataset
from tf_levelset.files import read_json
from tf_levelset.training.compiled import build_loss
from tf_levelset.training.recipes import RECIPES, smoke
from tf_levelset.training.run import Run

TINY = dataclasses.replace(
    smoke(RECIPES["synthetic"]), losses=("ce",), iterations=2, loss_stride=8
)
LEVEL_SET = dataclasses.replace(TINY, losses=("ls",))
START = Trial("net", TINY)
TRIALS = [Trial("ce", TINY, start=START), Trial("ls", LEVEL_SET, start=START)]


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_sweeps_are_sound(name: str) -> None:
    trials = SWEEPS[name]()
    runner.check(trials)
    for trial in trials:
        assert trial.recipe.dataset == "camvid"
        build_loss(trial.recipe, trial.loss, ignore_class=255)
    arms = {trial.arm for trial in trials}
    borrowed = BORROWED.get(name, {})
    for sources in borrowed.values():
        for sweep, arm in sources:
            assert arm in {trial.arm for trial in SWEEPS[sweep]()}
    if not name.startswith("starts"):
        assert (BASELINES[name] in arms) != (BASELINES[name] in borrowed)


@pytest.mark.parametrize("name", ["losses_on_a_drive", "sensitivity", "variants"])
def test_what_is_borrowed_under_a_name_is_what_the_name_says(name: str) -> None:
    ours = {(t.arm, t.pair): t.recipe for t in SWEEPS[name]()}
    for arm, sources in BORROWED[name].items():
        for sweep, theirs in sources:
            for trial in SWEEPS[sweep]():
                if trial.arm == theirs and (arm, trial.pair) in ours:
                    assert ours[arm, trial.pair] == trial.recipe
                elif trial.arm == theirs and arm in ("ce", SLOWER_CE):
                    assert trial.loss == "ce"
                    assert trial.recipe.learning_rate == RATE


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_arms_of_a_pair_differ_in_their_losses_alone(name: str) -> None:
    of_losses = ("losses", "level_set", "loss_options", "learning_rate")
    begun: dict[object, object] = {}
    for trial in SWEEPS[name]():
        if trial.start is not None:
            same = {k: v for k, v in vars(trial.recipe).items() if k not in of_losses}
            pair = (trial.pair, trial.start.name)
            assert begun.setdefault(pair, same) == same


def test_a_recipe_of_several_losses_raises() -> None:
    with pytest.raises(ValueError, match="a recipe with one loss"):
        Trial("both", dataclasses.replace(TINY, losses=("ce", "ls")))


def test_a_start_is_from_scratch_and_of_the_pair() -> None:
    other = Trial("net", dataclasses.replace(TINY, seed=1))
    for start in (other, TRIALS[0]):
        with pytest.raises(ValueError, match=f"`start` from scratch.*{start.name}"):
            Trial("ce", TINY, start=start)


def test_two_of_one_name_raise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two 'ce-official-0'"):
        run_sweep("tiny", [TRIALS[0], TRIALS[0]], tmp_path, tmp_path, None)


def test_a_pattern_chooses_trials() -> None:
    assert runner.matching(TRIALS, "*") == TRIALS
    assert runner.matching(TRIALS, "l*-0") == [TRIALS[1]]
    with pytest.raises(ValueError, match=r"such as 'ce-official-0'.*'lad-"):
        runner.matching(TRIALS, "lad-*")


def test_a_sweep_is_run_written_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, scratch = tmp_path / "results", tmp_path / "scratch"
    made: list[str] = []
    run_trial = runner.run_trial

    def noted(trial: Trial, *arguments: Any, **options: Any) -> dict[str, Any]:
        made.append(trial.name)
        return run_trial(trial, *arguments, **options)

    monkeypatch.setattr(runner, "run_trial", noted)
    run_sweep("tiny", TRIALS[:1], results, scratch, None)
    assert made == ["net-official-0", "ce-official-0"]
    first = read_json(results / "tiny/ce-official-0.json")
    assert (first["arm"], first["fold"], first["seed"]) == ("ce", "official", 0)
    assert (first["start"], first["crf_evaluation"]) == ("net-official-0", None)
    assert first["recipe"] == TINY.to_json()
    start = read_json(results / "starts/net-official-0.json")
    assert start["initial_weights"] != first["initial_weights"]
    assert first["history"][-1]["step"] == 2
    assert 0 <= first["evaluation"]["mean_iou"] <= 1
    # Of the runs' own files only the start's model is left, for any sweep.
    model = scratch / "starts/net-official-0/model.keras"
    assert [p for p in scratch.rglob("*") if p.is_file()] == [model]

    run_sweep("other", TRIALS[1:], results, scratch, None)
    assert made[2:] == ["ls-official-0"]
    second = read_json(results / "other/ls-official-0.json")
    assert second["initial_weights"] == first["initial_weights"]
    # A start whose model is gone is made again for what begins with it, not else.
    model.unlink()
    run_sweep("other", TRIALS[1:], results, scratch, None)
    assert made[3:] == []
    run_sweep("tiny", TRIALS, results, scratch, None)
    assert made[3:] == ["net-official-0", "ls-official-0"]
    third = read_json(results / "tiny/ls-official-0.json")
    # Equal to the last bit only where an operation has one thread.
    assert len(third["initial_weights"]) == 16


@pytest.mark.parametrize(("curves", "points"), [(False, 1), (True, 3)])
def test_for_curves_alone_is_a_run_judged_as_it_trains(
    tmp_path: Path, curves: bool, points: int
) -> None:
    three = dataclasses.replace(TINY, iterations=None, epochs=3, batch_size=64)
    run_sweep("tiny", [Trial("ce", three, curves=curves)], tmp_path, tmp_path, None)
    history = read_json(tmp_path / "tiny/ce-official-0.json")["history"]
    judged = [row["step"] for row in history if "val_mean_iou" in row]
    assert len(judged) == points
    assert judged[-1] == history[-1]["step"]


def test_a_digest_tells_weights_apart() -> None:
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    first = runner.digest(net)
    assert runner.digest(net) == first
    kernel, bias = net.get_weights()
    net.set_weights([np.nextafter(kernel, 9), bias])
    assert runner.digest(net) != first


def test_a_run_that_goes_on_knows_what_it_began_with(tmp_path: Path) -> None:
    sources = [load_dataset("synthetic", split) for split in ("train", "val")]
    run = Run(TINY, "ce", tmp_path, *sources)
    began = runner.initial_weights_of(run, tmp_path)
    run.trained.set_weights([w + 1 for w in run.trained.get_weights()])
    assert runner.digest(run.trained) != began
    assert runner.initial_weights_of(run, tmp_path) == began
    (tmp_path / "initial_weights.json").unlink()
    run.recorder.step = 1
    with pytest.raises(ValueError, match="beside a run that goes on"):
        runner.initial_weights_of(run, tmp_path)


def test_unknown_crfs_raise() -> None:
    with pytest.raises(ValueError, match=r"`crf` to be None or one of.*'vgg_7'"):
        Trial("ce", TINY, crf="vgg_7")


def test_a_model_is_judged_with_its_crf_too(tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf")
    trials = [Trial("ce", TINY, crf="vgg_5", pictures=True)]
    run_sweep("tiny", trials, tmp_path, tmp_path / "scratch", None)
    kept = (tmp_path / "tiny/pictures/ce-official-0").iterdir()
    assert len(list(kept)) == 2
    result = read_json(tmp_path / "tiny/ce-official-0.json")
    assert result["evaluation"]["crf"] is None
    assert result["crf_evaluation"]["crf"]["iterations"] == 5


def test_runs_begin_with_their_start_and_see_the_same_pictures(tmp_path: Path) -> None:
    # At a rate of next to nothing all arms end where they begin: at the start's model.
    still = [
        dataclasses.replace(
            t, recipe=dataclasses.replace(t.recipe, learning_rate=1e-12)
        )
        for t in TRIALS
    ]
    run_sweep("tiny", still, tmp_path, tmp_path / "scratch", None)
    ce, ls = (read_json(tmp_path / f"tiny/{t.name}.json") for t in still)
    np.testing.assert_allclose(
        ce["evaluation"]["level_set_energy"], ls["evaluation"]["level_set_energy"]
    )
