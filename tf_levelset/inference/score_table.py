"""Evaluations as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEADINGS = (
    "loss",
    "mIoU %",
    "pixel accuracy %",
    "boundary IoU %",
    "mIoU within 3 px %",
    "small objects %",
    "level set energy",
    "training s",
)


def report_rows(
    results: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, float],
    titles: Mapping[str, str],
) -> Sequence[Sequence[str]]:
    """Returns the rows of the table that compares losses.

    Args:
        results: Results of `evaluate`, by the loss's name.
        seconds: Training time by the loss's name, where it is known.
        titles: Title of each loss; its name by default.

    Returns:
        `HEADINGS`, then a row for each loss. A dash stands for a missing value.
    """

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.2f}"

    rows: list[Sequence[str]] = [HEADINGS]
    for name, result in results.items():
        shares = (
            result["mean_iou"],
            result["pixel_accuracy"],
            result["boundary_iou"],
            result["trimap_mean_iou"]["3"],
            result["small_object_recall"],
        )
        rows.append(
            (
                titles.get(name, name),
                *map(percent, shares),
                f"{result['level_set_energy']:.1f}",
                f"{seconds[name]:.0f}" if name in seconds else "–",
            )
        )
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Formats rows as a Markdown table; the first row holds the headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
        for r in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"
