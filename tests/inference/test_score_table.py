"""Tables of scores."""

from __future__ import annotations

from typing import Any

from tf_levelset.inference.score_table import report_rows


def test_report_rows() -> None:
    results: dict[str, dict[str, Any]] = {
        "ce": {
            "mean_iou": 0.5,
            "pixel_accuracy": 0.98765,
            "boundary_iou": 0.25,
            "trimap_mean_iou": {"1": 0.1, "3": 0.2, "5": 0.3, "10": 0.4},
            "small_object_recall": 0.125,
            "level_set_energy": 12.34,
        },
        "ls": {
            "mean_iou": None,
            "pixel_accuracy": 1.0,
            "boundary_iou": None,
            "trimap_mean_iou": {"3": None},
            "small_object_recall": None,
            "level_set_energy": 0.0,
        },
    }
    rows = report_rows(results, {"ce": 61.7}, {"ls": "with level set loss"})
    assert rows == [
        (
            "loss",
            "mIoU %",
            "pixel accuracy %",
            "boundary IoU %",
            "mIoU within 3 px %",
            "small objects %",
            "level set energy",
            "training s",
        ),
        ("ce", "50.00", "98.77", "25.00", "20.00", "12.50", "12.3", "62"),
        ("with level set loss", "–", "100.00", "–", "–", "–", "0.0", "–"),
    ]
