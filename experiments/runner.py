"""Runs the trials of a sweep and writes the result of each as soon as it ends.

A sweep that was stopped goes on where it was: finished trials are not run again, and a
trial that was interrupted resumes from its last checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import keras

from benchmarks.harness import environment
from experiments import results
from experiments.trials import STARTS, Trial
from tf_levelset import compat
from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.pipeline import in_memory
from tf_levelset.files import read_json, write_json
from tf_levelset.inference.crf import PRESETS, require_library
from tf_levelset.inference.evaluation import evaluate
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.run import Run

MODEL_FILE = "model.keras"


def run_sweep(
    name: str,
    trials: Sequence[Trial],
    scratch: Path,
    data_dir: str | None,
    folder: Path = results.RESULTS,
) -> None:
    """Runs the trials of a sweep that have no result yet, and the starts they need.

    Args:
        name: Name of the sweep.
        trials: The trials, in this order.
        scratch: Folder of checkpoints, and of the models of starts.
        data_dir: Folder of the data set.
        folder: Folder of the results.

    Raises:
        ValueError: For two trials of one name.
        ImportError: For a CRF whose library is not installed.
        KeyboardInterrupt: On Ctrl-C or SIGTERM, once the current step is saved.
    """
    names = [trial.name for trial in trials]
    if len(set(names)) < len(names):
        raise ValueError(f"Expected trials of different names. Received: {names}")
    if any(trial.crf is not None for trial in trials):
        require_library()
    for index, trial in enumerate(trials):
        if trial.name in _finished(name, folder):
            continue
        start = trial.start
        if start and not (scratch / STARTS / start.name / MODEL_FILE).exists():
            # Its result may be there already: models are not part of the results.
            _run_and_write(STARTS, start, scratch, data_dir, folder)
        print(f"[{index + 1}/{len(trials)}]", end=" ")
        _run_and_write(name, trial, scratch, data_dir, folder)


def matching(trials: Sequence[Trial], pattern: str) -> list[Trial]:
    """Returns the trials whose names match a pattern of `fnmatch`.

    Several processes can share a sweep if no two of them share a trial, or a start that
    is still to be trained.

    Raises:
        ValueError: If no name matches.
    """
    chosen = [trial for trial in trials if fnmatchcase(trial.name, pattern)]
    if not chosen:
        raise ValueError(
            f"Expected a pattern of trials such as {trials[0].name!r}. "
            f"Received: {pattern!r}"
        )
    return chosen


def _finished(sweep: str, folder: Path) -> set[str]:
    rows = results.read(sweep, folder)
    return {f"{r['configuration']}-{r['fold']}-{r['seed']}" for r in rows}


def _run_and_write(
    sweep: str, trial: Trial, scratch: Path, data_dir: str | None, folder: Path
) -> None:
    """Runs one trial and appends its row, unless the sweep has it already."""
    print(trial.name, flush=True)
    row = run_trial(trial, scratch / sweep / trial.name, scratch, data_dir)
    if trial.name not in _finished(sweep, folder):
        results.append(sweep, row, folder)
    print(f"    mIoU {100 * row['scores']['mean_iou']:.2f} %", flush=True)


def run_trial(
    trial: Trial, folder: Path, scratch: Path, data_dir: str | None
) -> results.Row:
    """Trains and evaluates one trial.

    Args:
        trial: The trial.
        folder: Folder of its checkpoints. Of a start, the model stays there;
            otherwise the folder is removed in the end.
        scratch: Folder that holds the folder of starts.
        data_dir: Folder of the data set.

    Returns:
        The trial's row, see `results`.
    """
    recipe = trial.recipe
    train_source, val_source = (
        in_memory(
            load_dataset(recipe.dataset, split, data_dir, **recipe.dataset_options)
        )
        for split in (recipe.train_split, recipe.val_split)
    )
    run = Run(
        _from_start(trial, scratch),
        trial.loss,
        folder,
        train_source,
        val_source,
        validations=1,
    )
    initial_weights = _initial_weights(run, folder)
    run.fit()
    scores = results.scores_of(evaluate(run.predictor, val_source))
    refined: dict[str, Any] = {}
    if trial.crf is not None:
        crf = evaluate(run.predictor, val_source, crf=PRESETS[trial.crf])
        refined = {"crf_scores": results.scores_of(crf)}
    seconds = sum(row["seconds"] for row in run.history)
    partial = folder.with_suffix(".partial.keras")
    run.model.save(partial)
    shutil.rmtree(folder)
    if trial.start is None:
        folder.mkdir()
        partial.replace(folder / MODEL_FILE)
    else:
        partial.unlink()
    fold, seed = trial.pair
    machine = environment()
    return {
        "configuration": trial.configuration,
        "fold": fold,
        "seed": seed,
        "start": None if trial.start is None else trial.start.name,
        "initial_weights": initial_weights,
        "settings": results.settings_of(trial),
        "scores": scores,
        **refined,
        "training_seconds": round(seconds, 1),
        "machine": f"{machine['machine']}, {machine['processor']}",
        "onednn": machine["onednn"],
        "versions": compat.versions(),
    }


def digest(model: keras.Model) -> str:
    """Returns sixteen hexadecimal digits of a model's weights, which name a start."""
    found = hashlib.sha256()
    for weights in model.get_weights():
        found.update(weights.tobytes())
    return found.hexdigest()[:16]


def _initial_weights(run: Run, folder: Path) -> str:
    """Returns the digest of the weights that a run began with, before any resume."""
    path = folder / "initial_weights.json"
    if not path.exists():
        write_json(path, digest(run.trained))
    return str(read_json(path))


def _from_start(trial: Trial, scratch: Path) -> Recipe:
    """Returns the recipe with the weights of the start, if there is one."""
    if trial.start is None:
        return trial.recipe
    weights = str(scratch / STARTS / trial.start.name / MODEL_FILE)
    options = {**trial.recipe.model_options, "weights": weights}
    return dataclasses.replace(trial.recipe, model_options=options)
