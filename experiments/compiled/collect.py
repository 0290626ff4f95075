"""Judges what `execute` brought back, as the runner judges its runs."""

from __future__ import annotations

import bz2
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.trials import Trial, job_name
from tf_levelset import compat
from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.pipeline import in_memory
from tf_levelset.files import read_json, write_json
from tf_levelset.inference.evaluation import evaluate

FIGURES = ("loss", "cross_entropy", "level_set_energy_per_pixel")
"""Of a step, in `lower.training_step`'s order."""


def collect(
    name: str,
    trials: Sequence[Trial],
    lowered: Path,
    answers: Path,
    results: Path,
    data_dir: str | None,
) -> None:
    """Writes the results of a sweep's trials, as far as they have come back.

    Args:
        name: of the sweep.
        trials: of it.
        lowered: folder that `lower` wrote.
        answers: folder that `execute` wrote.
        results: folder of the JSON files, see `runner.run_sweep`.
        data_dir: folder of the data set's files.
    """
    jobs = {job["name"]: job for job in read_json(lowered / "jobs.json")}
    for trial in trials:
        path = results / name / f"{trial.name}.json"
        # What others went on from has no sweep in its name.
        for job in (job_name(name, trial), trial.name):
            found = answers / f"{job}.npz"
            if found.exists() and not path.exists():
                write_json(path, _result(trial, jobs[job], found, data_dir))
                print(path)


def _result(
    trial: Trial, job: dict[str, Any], found: Path, data_dir: str | None
) -> dict[str, Any]:
    """JSON's types, as `runner.run_trial` gives them, but for what was not measured."""
    recipe, (fold, seed) = trial.recipe, trial.pair
    val = in_memory(
        load_dataset(
            recipe.dataset, recipe.val_split, data_dir, **recipe.dataset_options
        )
    )
    with np.load(found) as arrays:
        answers = dict(arrays)
    evaluation = evaluate(_replay(answers["masks"], answers, val.num_classes), val)
    evaluation["level_set_energy"] = float(answers["energies"].mean())
    evaluation["seconds_per_image"] = None
    return {
        "arm": trial.arm,
        "fold": fold,
        "seed": seed,
        "start": None if trial.start is None else trial.start.name,
        "initial_weights": str(answers["digest"]),
        "loss": trial.loss,
        "stages": trial.stages,
        "recipe": recipe.to_json(),
        "evaluation": evaluation,
        "crf_evaluation": None,
        "history": _history(answers["figures"], job["steps_per_epoch"]),
        "training_seconds": round(float(answers["seconds"]), 3),
        "versions": {**compat.versions(), "jax": str(answers["jax"])},
        "machine": str(answers["device"]),
    }


def _replay(
    masks: np.ndarray, answers: dict[str, np.ndarray], classes: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The masks as a predictor of pictures in the same order: certain of each pixel."""
    plain = np.frombuffer(bz2.decompress(masks.tobytes()), np.uint8)
    each = iter(plain.reshape(answers["shape"]))
    return lambda image: np.eye(classes, dtype=np.float32)[next(each)]


def _history(figures: np.ndarray, steps_per_epoch: int) -> list[dict[str, float]]:
    """A row an epoch: its means over its steps."""
    rows = []
    for first in range(0, len(figures), steps_per_epoch):
        part = figures[first : first + steps_per_epoch]
        means = part.astype(np.float64).mean(axis=0).tolist()
        rows.append(
            {
                "epoch": first // steps_per_epoch + 1,
                "step": first + len(part),
                "steps": len(part),
                **dict(zip(FIGURES, means, strict=True)),
            }
        )
    return rows
