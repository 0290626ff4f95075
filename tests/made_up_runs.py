"""Run folders with invented scores, for tests of what reads and compares them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tf_levelset.files import write_json
from tf_levelset.training.recipe import Recipe

CLASSES = ("sky", "road")


def evaluation(
    mean_iou: float, classes: Sequence[str] = CLASSES, **changes: Any
) -> dict[str, Any]:
    """Returns the content of an evaluation.json, as far as it is compared.

    Args:
        mean_iou: In [0, 1]; the other scores are derived from it.
        classes: Names of the classes.
        **changes: Fields with other values.
    """
    return {
        "dataset": "made/up",
        "images": 5,
        "mean_iou": mean_iou,
        "pixel_accuracy": mean_iou,
        "boundary_iou": mean_iou,
        "class_iou": dict.fromkeys(classes, mean_iou),
        "class_boundary_iou": dict.fromkeys(classes, mean_iou / 2),
        "trimap_mean_iou": {str(w): mean_iou / 2 for w in (1, 3, 5, 10)},
        "small_object_recall": None,
        "level_set_energy": 100 * (1 - mean_iou),
        **changes,
    }


def write_run(
    folder: Path, recipe: Recipe, **evaluations: dict[str, Any] | None
) -> Path:
    """Writes a run folder, and returns it.

    Args:
        folder: The run folder.
        recipe: The recipe of the run.
        **evaluations: An evaluation for each loss whose training has begun, or None if
            it has not ended.
    """
    write_json(folder / "config.json", recipe.to_json())
    for loss, result in evaluations.items():
        write_json(folder / loss / "history.json", history())
        if result is not None:
            write_json(folder / loss / "evaluation.json", result)
            write_json(folder / loss / "classes.json", list(result["class_iou"]))
    return folder


def history() -> list[dict[str, float]]:
    """Two epochs of ten steps; validation after the second only."""
    rows: list[dict[str, float]] = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "steps": 10,
            "seconds": 1.5,
            "cross_entropy": 1 / epoch,
            "level_set_energy_per_pixel": 0.2 / epoch,
            "mean_iou": 0.1 * epoch,
        }
        for epoch in (1, 2)
    ]
    rows[1] |= {
        "val_cross_entropy": 0.75,
        "val_level_set_energy_per_pixel": 0.125,
        "val_mean_iou": 0.175,
    }
    return rows
