"""Runs the trials of a sweep, one after the other, and writes each as it ends.

Killed and started again, a sweep goes on: what is written is not run again, and a run
that was cut off is resumed from its last epoch's checkpoint.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.trials import Trial
from tf_levelset import compat
from tf_levelset.datasets import load_dataset
from tf_levelset.evaluation import evaluate
from tf_levelset.files import write_json
from tf_levelset.interrupts import Interrupts
from tf_levelset.recipes import Recipe
from tf_levelset.training import Run

MODEL_FILE = "model.keras"


def run_sweep(
    trials: Sequence[Trial], results: Path, scratch: Path, data_dir: str | None
) -> None:
    """Runs what of a sweep is not written yet.

    Args:
        trials: in this order; a start stands before what begins with it.
        results: folder of the JSON files, one a trial.
        scratch: folder of the runs' own files: checkpoints, and the models of starts.
        data_dir: folder of the data set's files.

    Raises:
        ValueError: for two trials of one name, or a start that does not come before.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, once the step at hand is saved.
    """
    check(trials)
    starts = {t.name_of(t.start) for t in trials if t.start is not None}
    for index, trial in enumerate(trials):
        path, folder = results / f"{trial.name}.json", scratch / trial.name
        # A model that others begin with is needed even where its result is known.
        wanted = trial.name in starts and not (folder / MODEL_FILE).exists()
        if path.exists() and not (wanted and _is_needed(trials, trial, results)):
            continue
        print(f"[{index + 1}/{len(trials)}] {trial.name}", flush=True)
        began = time.perf_counter()
        result = run_trial(trial, folder, scratch, data_dir, trial.name in starts)
        if not path.exists():
            write_json(path, result)
        seconds = time.perf_counter() - began
        mean_iou = result["evaluation"]["mean_iou"]
        print(f"    mIoU {100 * mean_iou:.2f} %, {seconds:.0f} s", flush=True)


def check(trials: Sequence[Trial]) -> None:
    """Raises unless names are unique and starts come first."""
    seen: set[str] = set()
    for trial in trials:
        if trial.name in seen:
            raise ValueError(f"Expected one trial a name. Received: two {trial.name!r}")
        if trial.start is not None and trial.name_of(trial.start) not in seen:
            raise ValueError(
                f"Expected {trial.name_of(trial.start)!r} before {trial.name!r}, which "
                "begins with its weights. Received: none"
            )
        seen.add(trial.name)


def _is_needed(trials: Sequence[Trial], start: Trial, results: Path) -> bool:
    """Whether a run that begins with this one's weights is still to be made."""
    return any(
        t.start is not None
        and t.name_of(t.start) == start.name
        and not (results / f"{t.name}.json").exists()
        for t in trials
    )


def run_trial(
    trial: Trial, folder: Path, scratch: Path, data_dir: str | None, keep: bool
) -> dict[str, Any]:
    """Trains and judges one trial.

    Args:
        trial: what to run.
        folder: of this run's files; removed in the end, but for a model to keep.
        scratch: where the folder of its start is.
        data_dir: folder of the data set's files.
        keep: whether others begin with its model.

    Returns:
        JSON's types: arm, fold, seed, start, loss, recipe, evaluation, history,
        training_seconds, versions and machine.
    """
    recipe = trial.recipe
    train_source, val_source = (
        load_dataset(recipe.dataset, split, data_dir, **recipe.dataset_options)
        for split in (recipe.train_split, recipe.val_split)
    )
    run = Run(_from_start(trial, scratch), trial.loss, folder, train_source, val_source)
    with Interrupts() as interrupts:
        run.fit(interrupts)
    evaluation = evaluate(run.predictor, val_source)
    history = list(run.history)
    if keep:
        run.model.save(folder.with_suffix(".partial.keras"))
    shutil.rmtree(folder)
    if keep:
        folder.mkdir()
        folder.with_suffix(".partial.keras").replace(folder / MODEL_FILE)
    fold, seed = trial.pair
    return {
        "arm": trial.arm,
        "fold": fold,
        "seed": seed,
        "start": trial.start,
        "loss": trial.loss,
        "recipe": recipe.to_json(),
        "evaluation": evaluation,
        "history": history,
        "training_seconds": round(sum(row["seconds"] for row in history), 1),
        "versions": compat.versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _from_start(trial: Trial, scratch: Path) -> Recipe:
    """The recipe, with the weights to begin with; its record has no path of them."""
    if trial.start is None:
        return trial.recipe
    weights = str(scratch / trial.name_of(trial.start) / MODEL_FILE)
    options = {**trial.recipe.model_options, "weights": weights}
    return dataclasses.replace(trial.recipe, model_options=options)
