"""The results of a sweep: one file, a row of JSON for each training.

A row holds the trial's configuration, fold and seed, the settings of its loss, its
scores in [0, 1], and what it ran on. Rows are appended when a training ends, so that
several processes can share a sweep.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.trials import Trial

RESULTS = Path(__file__).resolve().parent / "results"

SMALL_THINGS = ("pole", "sign", "car", "pedestrian", "bicyclist")
"""CamVid's classes of single objects. Most small connected components are parts of
buildings, pavement and other ground."""

Row = Mapping[str, Any]


def read(sweep: str, folder: Path = RESULTS) -> list[Row]:
    """Returns the rows of a sweep, none if it has not run.

    Args:
        sweep: Name of the sweep.
        folder: Folder of the results.
    """
    path = folder / f"{sweep}.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(sweep: str, row: Row, folder: Path = RESULTS) -> None:
    """Writes one row at the end of a sweep's file, in a single write."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{sweep}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def settings_of(trial: Trial) -> dict[str, Any]:
    """Returns what a reader needs to know of a trial's recipe."""
    recipe, loss = trial.recipe, trial.loss
    options = recipe.level_set if loss == "ls" else recipe.loss_options.get(loss, {})
    return {
        "loss": loss,
        **options,
        "learning_rate": recipe.learning_rate,
        "epochs": recipe.epochs,
        "model": recipe.model,
        "width": recipe.model_options.get("width"),
        "loss_stride": recipe.loss_stride,
    }


def scores_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scores of an evaluation that are kept, rounded to six digits."""
    recalls = [evaluation["class_small_object_recall"].get(c) for c in SMALL_THINGS]
    known = [recall for recall in recalls if recall is not None]
    without = evaluation["mean_iou_without"].get("bicyclist")
    trimap = evaluation["trimap_mean_iou"].items()
    scores = {
        "mean_iou": evaluation["mean_iou"],
        "mean_iou_without_bicyclist": without,
        **{f"trimap_{width}_px": value for width, value in trimap},
        "boundary_iou": evaluation["boundary_iou"],
        "small_object_recall": evaluation["small_object_recall"],
        "small_things_recall": sum(known) / len(known) if known else None,
        "pixel_accuracy": evaluation["pixel_accuracy"],
    }
    classes = {name: _rounded(iou) for name, iou in evaluation["class_iou"].items()}
    return {
        **{name: _rounded(value) for name, value in scores.items()},
        "class_iou": classes,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
