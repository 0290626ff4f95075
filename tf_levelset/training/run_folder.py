"""What run folders hold, read back: a file that is not a run's is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tf_levelset.checks import is_number, is_whole
from tf_levelset.files import read_json

SCORES = (
    *("mean_iou", "pixel_accuracy", "boundary_iou", "small_object_recall"),
    "level_set_energy",
)
"""Fields of an evaluation that are a number, or None where there is none."""

SCORES_BY_NAME = ("class_iou", "class_boundary_iou", "trimap_mean_iou")
"""Fields that hold one for each class, or each width."""

PLACE = ("epoch", "step", "seconds")
"""What every row of a history has, beside its values."""


def read_history(path: Path) -> list[dict[str, float]]:
    """Reads a history: rows of numbers.

    Raises:
        ValueError: for a file that is none.
    """
    rows = read_json(path)
    sound = isinstance(rows, list) and all(
        isinstance(row, dict)
        and set(PLACE) <= set(row)
        and all(map(is_number, row.values()))
        for row in rows
    )
    _require(path, sound, "a history, rows of numbers", rows)
    return rows


def read_evaluation(path: Path) -> dict[str, Any]:
    """Reads an evaluation, as `evaluation.evaluate` returns it.

    Raises:
        ValueError: for a file that is none.
    """
    return checked_evaluation(path, read_json(path))


def read_evaluations(path: Path) -> dict[str, dict[str, Any]]:
    """Reads evaluations by the names of their losses.

    Raises:
        ValueError: for a file that has none.
    """
    values = read_json(path)
    _require(path, isinstance(values, dict), "evaluations by their losses", values)
    return {name: checked_evaluation(path, value) for name, value in values.items()}


def checked_evaluation(path: Path, values: Any) -> dict[str, Any]:
    """Returns an evaluation that was read from a path, or raises `ValueError`."""
    sound = (
        isinstance(values, dict)
        and isinstance(values.get("dataset"), str)
        and is_whole(values.get("images"))
        and all(_is_score(values.get(name)) for name in SCORES)
        and all(_are_scores(values.get(name, {})) for name in SCORES_BY_NAME)
    )
    _require(path, sound, "an evaluation", values)
    return values


def read_class_names(path: Path) -> list[str]:
    """Reads names of classes.

    Raises:
        ValueError: for anything else.
    """
    names = read_json(path)
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    _require(path, texts, "names of classes", names)
    return names


def read_palette(path: Path) -> np.ndarray:
    """Reads colours, uint8 (C, 3).

    Raises:
        ValueError: for anything else.
    """
    rows = read_json(path)
    sound = isinstance(rows, list) and all(
        isinstance(row, list)
        and len(row) == 3
        and all(is_whole(value) and 0 <= value <= 255 for value in row)
        for row in rows
    )
    _require(path, sound, "colours [red, green, blue]", rows)
    return np.array(rows, np.uint8).reshape(-1, 3)


def read_versions(path: Path) -> dict[str, str]:
    """Reads the versions that a report was written with; it may have none.

    Raises:
        ValueError: for a file that is no report.
    """
    report = read_json(path)
    versions = report.get("versions", {}) if isinstance(report, dict) else None
    sound = isinstance(versions, dict) and all(
        isinstance(text, str) for text in versions.values()
    )
    _require(path, sound, "a run's report", report)
    return versions or {}


def _is_score(value: Any) -> bool:
    return value is None or is_number(value)


def _are_scores(values: Any) -> bool:
    return isinstance(values, dict) and all(map(_is_score, values.values()))


def _require(path: Path, sound: bool, what: str, values: Any) -> None:
    if not sound:
        raise ValueError(f"Expected {what} in {path}. Received: {values!r:.200}")
