"""Sweeps are sound, and their trials are run, written, and resumed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from experiments import results, runner
from experiments.runner import run_sweep
from experiments.sweeps import SWEEPS
from experiments.trials import Trial
from tf_levelset.training.compiled import build_loss
from tf_levelset.training.recipes import RECIPES, smoke

TINY = dataclasses.replace(
    smoke(RECIPES["synthetic"]), losses=("ce",), iterations=2, loss_stride=8
)
START = Trial("net", TINY)
# With a tiny learning rate every loss ends where it begins: at the start's model.
STILL = dataclasses.replace(TINY, learning_rate=1e-12)
TRIALS = [
    Trial("ce", STILL, start=START),
    Trial("ls", dataclasses.replace(STILL, losses=("ls",)), start=START),
]


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_sweeps_are_sound(name: str) -> None:
    of_losses = ("losses", "level_set", "loss_options", "learning_rate")
    trials = SWEEPS[name]()
    assert len({trial.name for trial in trials}) == len(trials)
    begun: dict[object, object] = {}
    for trial in trials:
        build_loss(trial.recipe, trial.loss, ignore_class=255)
        if trial.start is not None:
            # The trials of a pair differ in their losses alone.
            same = {k: v for k, v in vars(trial.recipe).items() if k not in of_losses}
            pair = (trial.pair, trial.start.name)
            assert begun.setdefault(pair, same) == same


def test_a_trial_has_one_loss_and_a_start_of_its_pair() -> None:
    with pytest.raises(ValueError, match="a recipe with one loss"):
        Trial("both", dataclasses.replace(TINY, losses=("ce", "ls")))
    with pytest.raises(ValueError, match=r"`crf` to be None or one of.*'vgg_7'"):
        Trial("ce", TINY, crf="vgg_7")
    other = Trial("net", dataclasses.replace(TINY, seed=1))
    for start in (other, TRIALS[0]):
        with pytest.raises(ValueError, match=f"from scratch and of .*{start.name}"):
            Trial("ce", TINY, start=start)


def test_a_sweep_is_run_written_and_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scratch = tmp_path / "results", tmp_path / "scratch"
    made: list[str] = []
    run_trial = runner.run_trial

    def noted(trial: Trial, *arguments: Any) -> results.Row:
        made.append(trial.name)
        return run_trial(trial, *arguments)

    monkeypatch.setattr(runner, "run_trial", noted)
    run_sweep("tiny", TRIALS[:1], scratch, None, folder)
    assert made == ["net-official-0", "ce-official-0"]
    (first,) = results.read("tiny", folder)
    assert (first["configuration"], first["fold"], first["seed"]) == (
        "ce",
        "official",
        0,
    )
    assert first["start"] == "net-official-0"
    assert "crf_scores" not in first
    assert first["settings"]["learning_rate"] == STILL.learning_rate
    assert 0 <= first["scores"]["mean_iou"] <= 1
    (start,) = results.read("starts", folder)
    assert start["initial_weights"] != first["initial_weights"]
    # Of the trials' own files only the model of the start is left.
    model = scratch / "starts/net-official-0/model.keras"
    assert [p for p in scratch.rglob("*") if p.is_file()] == [model]

    run_sweep("tiny", TRIALS, scratch, None, folder)
    assert made[2:] == ["ls-official-0"]
    second = results.read("tiny", folder)[1]
    assert second["initial_weights"] == first["initial_weights"]
    # Both have seen the same images.
    assert json.dumps(second["scores"]) == json.dumps(first["scores"])
    # A start whose model is gone is trained again only for trials that need it.
    model.unlink()
    run_sweep("tiny", TRIALS, scratch, None, folder)
    assert made[3:] == []
    run_sweep("other", TRIALS[:1], scratch, None, folder)
    assert made[3:] == ["net-official-0", "ce-official-0"]
    assert len(results.read("starts", folder)) == 1


def test_a_model_is_evaluated_with_its_crf_too(tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf")
    trials = [Trial("ce", TINY, crf="vgg_5")]
    run_sweep("tiny", trials, tmp_path / "scratch", None, tmp_path)
    (row,) = results.read("tiny", tmp_path)
    assert set(row["crf_scores"]) == set(row["scores"])
