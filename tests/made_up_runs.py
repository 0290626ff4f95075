"""Run folders with figures made up, for the tests of what compares them."""

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
    """What a loss's evaluation.json holds, as far as it is compared.

    Args:
        mean_iou: in [0, 1], as are what other figures are made of it.
        classes: their names.
        **changes: of its fields.
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
        folder: to write.
        recipe: of the run.
        **evaluations: by the losses that have begun; None where none has ended.
    """
    write_json(folder / "config.json", recipe.to_json())
    for loss, result in evaluations.items():
        write_json(folder / loss / "history.json", history())
        if result is not None:
            write_json(folder / loss / "evaluation.json", result)
            write_json(folder / loss / "classes.json", list(result["class_iou"]))
    return folder


def history() -> list[dict[str, float]]:
    """Two epochs of ten steps; validation in the second alone."""
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
