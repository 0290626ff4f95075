"""The files of a run folder, by name, and how they are read back.

A run folder holds

    config.json                 the recipe
    report.json  report.md  panel.png        the losses side by side
    verified.json               digests of the data, see `identity`
    ce/  ls/  …                 one folder per loss:
        checkpoint/             everything that training changes, to resume from
        history.csv  history.json            one row per epoch
        events/                 TensorBoard's files, with images
        model.keras             from an image to logits of its size
        classes.json  palette.json           names and colours of the classes
        evaluation.json         scores at the original size of the images
        export/1/               the SavedModel
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tf_levelset.checks import is_number, is_whole
from tf_levelset.files import read_json
from tf_levelset.training.recipe import Recipe

CONFIG_FILE = "config.json"
VERIFIED_FILE = "verified.json"
MODEL_FILE, EVALUATION_FILE = "model.keras", "evaluation.json"
CLASSES_FILE, PALETTE_FILE = "classes.json", "palette.json"

SCORES = (
    *("mean_iou", "pixel_accuracy", "boundary_iou", "small_object_recall"),
    "level_set_energy",
)
"""Fields of an evaluation that hold a number, or None if there is none."""

SCORES_BY_NAME = ("class_iou", "class_boundary_iou", "trimap_mean_iou")
"""Fields of an evaluation that hold a score per class, or per trimap width."""

PLACE = ("epoch", "step", "seconds")
"""Fields that every row of a history has."""

# --- The recipe ---


def load_recipe(run_dir: Path) -> Recipe:
    """Reads the recipe of a run folder.

    Raises:
        FileNotFoundError: If the folder has no config.json.
        ValueError: If its config.json is not a recipe.
    """
    path = run_dir / CONFIG_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"Expected a run folder with a config.json. Received: {run_dir}"
        )
    return Recipe.from_json(read_json(path))


# --- Histories and evaluations ---
#
# Each function that reads a file raises `ValueError`, naming the file, if it does not
# hold what it should.


def read_history(path: Path) -> list[dict[str, float]]:
    """Reads a history: one row of numbers per epoch."""
    rows = read_json(path)
    is_history = isinstance(rows, list) and all(
        isinstance(row, dict)
        and set(PLACE) <= set(row)
        and all(map(is_number, row.values()))
        for row in rows
    )
    require(path, is_history, "a history, rows of numbers", rows)
    return rows


def training_seconds(history: Sequence[Mapping[str, float]]) -> float:
    """Returns the time that the epochs of a history took, without validation."""
    return round(sum(row["seconds"] for row in history), 1)


def read_evaluation(path: Path) -> dict[str, Any]:
    """Reads what `evaluate` of `tf_levelset.inference` returned."""
    return checked_evaluation(path, read_json(path))


def read_evaluations(path: Path) -> dict[str, dict[str, Any]]:
    """Reads evaluations by the names of their losses."""
    values = read_json(path)
    require(path, isinstance(values, dict), "evaluations by their losses", values)
    return {name: checked_evaluation(path, value) for name, value in values.items()}


def checked_evaluation(path: Path, values: Any) -> dict[str, Any]:
    """Returns `values`, which were read from `path`, if they are an evaluation."""
    is_evaluation = (
        isinstance(values, dict)
        and isinstance(values.get("dataset"), str)
        and is_whole(values.get("images"))
        and all(_is_score(values.get(name)) for name in SCORES)
        and all(_are_scores(values.get(name, {})) for name in SCORES_BY_NAME)
    )
    require(path, is_evaluation, "an evaluation", values)
    return values


def _is_score(value: Any) -> bool:
    return value is None or is_number(value)


def _are_scores(values: Any) -> bool:
    return isinstance(values, dict) and all(map(_is_score, values.values()))


# --- Classes, colours and versions ---


def read_class_names(path: Path) -> list[str]:
    """Reads the names of classes."""
    names = read_json(path)
    are_names = isinstance(names, list) and all(isinstance(n, str) for n in names)
    require(path, are_names, "names of classes", names)
    return names


def read_palette(path: Path) -> np.ndarray:
    """Reads the colours of classes, uint8 of shape (C, 3)."""
    rows = read_json(path)
    is_palette = isinstance(rows, list) and all(
        isinstance(row, list)
        and len(row) == 3
        and all(is_whole(value) and 0 <= value <= 255 for value in row)
        for row in rows
    )
    require(path, is_palette, "colours [red, green, blue]", rows)
    return np.array(rows, np.uint8).reshape(-1, 3)


def read_versions(path: Path) -> dict[str, str]:
    """Reads the versions that a report was written with, if it names them."""
    report = read_json(path)
    versions = report.get("versions", {}) if isinstance(report, dict) else None
    is_report = isinstance(versions, dict) and all(
        isinstance(text, str) for text in versions.values()
    )
    require(path, is_report, "the report of a run", report)
    return versions or {}


def require(path: Path, condition: bool, expected: str, values: Any) -> None:
    """Raises `ValueError`, naming the file, unless a condition holds."""
    if not condition:
        raise ValueError(f"Expected {expected} in {path}. Received: {values!r:.200}")
