"""Runs the trials of a sweep, one after the other, and writes each as it ends.

Killed and started again, a sweep goes on: what is written is not run again, and a run
that was cut off is resumed from its last checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import keras

from benchmarks.harness import environment
from experiments.pictures import write_pictures
from experiments.stages import Stages
from experiments.trials import STARTS, Trial
from tf_levelset import compat
from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.pipeline import in_memory
from tf_levelset.files import read_json, write_json
from tf_levelset.inference.crf import PRESETS, require_library
from tf_levelset.inference.evaluation import evaluate
from tf_levelset.training.interrupts import Interrupts
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.run import Run

MODEL_FILE = "model.keras"

VALIDATIONS = 20
"""Points of a curve."""

PICTURES = "pictures"
"""Of a sweep's results: the folder of the pictures that runs keep."""


def run_sweep(
    name: str,
    trials: Sequence[Trial],
    results: Path,
    scratch: Path,
    data_dir: str | None,
) -> None:
    """Runs what of a sweep is not written yet, and the starts that it needs.

    Args:
        name: of the sweep, and of its folders in `results` and `scratch`.
        trials: in this order.
        results: folder of the JSON files, one a trial, by sweep; those of starts are
            in `STARTS`, since sweeps share them.
        scratch: folder of the runs' own files: checkpoints, and the models of starts.
        data_dir: folder of the data set's files.

    Raises:
        ValueError: for two trials of one name.
        ImportError: for a CRF without its library, see `tf_levelset.inference.crf`.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, once the step at hand is saved.
    """
    check(trials)
    if any(trial.crf is not None for trial in trials):
        require_library()
    for index, trial in enumerate(trials):
        if (results / name / f"{trial.name}.json").exists():
            continue
        if trial.start is not None and not _has_model(trial.start, scratch):
            # Its result may be written: models are not part of the results.
            _run_and_write(STARTS, trial.start, results, scratch, data_dir)
        print(f"[{index + 1}/{len(trials)}]", end=" ")
        _run_and_write(name, trial, results, scratch, data_dir)


def _has_model(start: Trial, scratch: Path) -> bool:
    return (scratch / STARTS / start.name / MODEL_FILE).exists()


def _run_and_write(
    sweep: str, trial: Trial, results: Path, scratch: Path, data_dir: str | None
) -> None:
    """Runs one trial, and writes its result, but for one that is there already."""
    print(trial.name, flush=True)
    began = time.perf_counter()
    folder, path = scratch / sweep / trial.name, results / sweep / f"{trial.name}.json"
    pictures = results / sweep / PICTURES / trial.name
    result = run_trial(trial, folder, scratch, data_dir, pictures, keep=sweep == STARTS)
    if not path.exists():
        write_json(path, result)
    seconds = time.perf_counter() - began
    mean_iou = result["evaluation"]["mean_iou"]
    print(f"    mIoU {100 * mean_iou:.2f} %, {seconds:.0f} s", flush=True)


def matching(trials: Sequence[Trial], pattern: str) -> list[Trial]:
    """The trials whose names match.

    Several commands can so share a sweep, if no two of them share a trial or a start
    that is still to be trained.

    Args:
        trials: of a sweep.
        pattern: of `fnmatch`.

    Raises:
        ValueError: if none matches.
    """
    chosen = [t for t in trials if fnmatchcase(t.name, pattern)]
    if not chosen:
        raise ValueError(
            f"Expected a pattern of trials such as {trials[0].name!r}. "
            f"Received: {pattern!r}"
        )
    return chosen


def check(trials: Sequence[Trial]) -> None:
    """Raises unless names are unique."""
    names = [trial.name for trial in trials]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Expected one trial a name. Received: two {name!r}")


def run_trial(
    trial: Trial,
    folder: Path,
    scratch: Path,
    data_dir: str | None,
    pictures: Path,
    keep: bool,
) -> dict[str, Any]:
    """Trains and judges one trial.

    Args:
        trial: what to run.
        folder: of this run's files; removed in the end, but for a model to keep.
        scratch: where the folder of starts is.
        data_dir: folder of the data set's files.
        pictures: folder of those that the trial keeps, if it does.
        keep: whether others begin with its model.

    Returns:
        JSON's types: arm, fold, seed, start, initial_weights, loss, stages, recipe,
        evaluation, crf_evaluation (None without a CRF), history, training_seconds,
        versions, machine and oneDNN's switch.
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
        validations=VALIDATIONS if trial.curves else 1,
        callbacks=[Stages(*trial.stages, recipe.epochs)] if trial.stages else [],
    )
    initial_weights = initial_weights_of(run, folder)
    with Interrupts() as interrupts:
        run.fit(interrupts)
    evaluation = evaluate(run.predictor, val_source)
    refined = None
    if trial.crf is not None:
        refined = evaluate(run.predictor, val_source, crf=PRESETS[trial.crf])
    if trial.pictures:
        write_pictures(run.predictor, val_source, pictures)
    history = list(run.history)
    if keep:
        run.model.save(folder.with_suffix(".partial.keras"))
    shutil.rmtree(folder)
    if keep:
        folder.mkdir()
        folder.with_suffix(".partial.keras").replace(folder / MODEL_FILE)
    fold, seed = trial.pair
    machine = environment()
    return {
        "arm": trial.arm,
        "fold": fold,
        "seed": seed,
        "start": None if trial.start is None else trial.start.name,
        "initial_weights": initial_weights,
        "loss": trial.loss,
        "stages": trial.stages,
        "recipe": recipe.to_json(),
        "evaluation": evaluation,
        "crf_evaluation": refined,
        "history": history,
        "training_seconds": round(sum(row["seconds"] for row in history), 1),
        "versions": compat.versions(),
        "machine": f"{machine['machine']}, {machine['processor']}",
        "onednn": machine["onednn"],
    }


def digest(model: keras.Model) -> str:
    """Sixteen hexadecimal digits of a model's weights: runs with the same are pairs."""
    found = hashlib.sha256()
    for weights in model.get_weights():
        found.update(weights.tobytes())
    return found.hexdigest()[:16]


def initial_weights_of(run: Run, folder: Path) -> str:
    """What the run began with, also for one that was cut off and goes on."""
    path = folder / "initial_weights.json"
    if not path.exists():
        if run.recorder.step:
            raise ValueError(
                f"Expected {path} beside a run that goes on. Received: none"
            )
        write_json(path, digest(run.trained))
    return str(read_json(path))


def _from_start(trial: Trial, scratch: Path) -> Recipe:
    """The recipe, with the weights to begin with; its record has no path of them."""
    if trial.start is None:
        return trial.recipe
    weights = str(scratch / STARTS / trial.start.name / MODEL_FILE)
    options = {**trial.recipe.model_options, "weights": weights}
    return dataclasses.replace(trial.recipe, model_options=options)
