"""What a run writes, with figures made up, for the tests of tables and plots."""

from __future__ import annotations

from typing import Any


def result(arm: str, seed: int, mean_iou: float, **changes: Any) -> dict[str, Any]:
    """A run of CamVid's own split.

    Args:
        arm: of it.
        seed: of it; the weights that it began with are named after it.
        mean_iou: in [0, 1], as are what other figures are made of it.
        **changes: of the evaluation.
    """
    history = [
        {
            "step": step,
            "cross_entropy": mean_iou / step,
            "level_set_energy_per_pixel": 1.0,
            **({"val_mean_iou": mean_iou} if step == 20 else {}),
        }
        for step in (10, 20)
    ]
    evaluation: dict[str, Any] = {
        "mean_iou": mean_iou,
        "mean_iou_without": {"bicyclist": mean_iou},
        "trimap_mean_iou": {str(w): mean_iou / 2 for w in (1, 3, 5, 10)},
        "boundary_iou": mean_iou,
        "small_object_recall": 0.3,
        "class_small_object_recall": {"car": 0.3, "pole": None, "sky": 0.9},
        "pixel_accuracy": 0.9,
        "class_iou": {"sky": mean_iou},
        "seconds_per_image": {"net": 0.4, "crf": 0.1},
        **changes,
    }
    return {
        "arm": arm,
        "fold": "official",
        "seed": seed,
        "start": f"net-official-{seed}",
        "initial_weights": str(seed),
        "evaluation": evaluation,
        "crf_evaluation": None,
        "history": history,
        "training_seconds": 360.0,
    }
