"""The figures of docs/results.md, from a sweep's JSON files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report import LEAST_FOR_INTERVAL, Result, by_arm
from experiments.report import Figure as Quantity
from experiments.statistics import paired_difference

WIDTH = 8.0
"""Inches."""

COLOURS = ("#666666", "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7")

CURVES = {
    "cross_entropy": "cross-entropy, training",
    "level_set_energy_per_pixel": "level set energy a pixel, training",
    "val_mean_iou": "mIoU, validation, at the net's size",
}
"""What Figure 4 shows, of a history, and the titles."""


def differences(
    results: Sequence[Result], baseline: str, quantities: Mapping[str, Quantity]
) -> Figure:
    """A column a quantity, a row an arm: every pair, the mean, of three the interval.

    Args:
        results: of a sweep.
        baseline: the arm to compare with.
        quantities: of an evaluation, by title; see `report.FIGURES`.
    """
    columns = {t: by_arm(results, quantity) for t, quantity in quantities.items()}
    first = next(iter(columns.values()))
    arms = sorted(
        (arm for arm in first if arm != baseline),
        key=lambda arm: -paired_difference(first[arm], first[baseline]).mean,
    )
    drawing = Figure((WIDTH, 1.1 + 0.3 * len(arms)), layout="constrained")
    all_axes = drawing.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (title, values) in zip(all_axes, columns.items(), strict=True):
        for row, arm in enumerate(arms):
            found = paired_difference(values[arm], values[baseline])
            axes.plot(
                found.values, [row] * len(found.values), "o", color=COLOURS[1], ms=3
            )
            if len(found.values) >= LEAST_FOR_INTERVAL:
                axes.plot(found.interval, [row, row], color="k", lw=1.2)
            axes.plot(found.mean, row, "|", color="k", ms=10, mew=1.5)
        axes.axvline(0, color="k", lw=0.8, ls="--")
        axes.set_title(title, fontsize=8)
        axes.set_xlabel(f"points over {baseline}", fontsize=7)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    all_axes[0].set_yticks(range(len(arms)), arms)
    all_axes[0].invert_yaxis()
    return drawing


def curves(results: Sequence[Result], arms: Sequence[str]) -> Figure:
    """Figure 4: `CURVES` over the steps, the mean of the pairs and their range.

    Args:
        results: of a sweep.
        arms: to show, each in one colour.
    """
    drawing = Figure((WIDTH, 3.0), layout="constrained")
    all_axes = drawing.subplots(1, len(CURVES))
    for axes, (key, title) in zip(all_axes, CURVES.items(), strict=True):
        for index, arm in enumerate(arms):
            histories = [r["history"] for r in results if r["arm"] == arm]
            _draw_curve(axes, arm, histories, key, COLOURS[index % len(COLOURS)])
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("step", fontsize=7)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    all_axes[0].legend(fontsize=7, frameon=False)
    return drawing


def _draw_curve(
    axes: Axes,
    label: str,
    histories: Sequence[Sequence[Mapping[str, float]]],
    key: str,
    colour: str,
) -> None:
    """One quantity of an arm's runs, where the histories have it."""
    points = [{r["step"]: r[key] for r in rows if key in r} for rows in histories]
    steps = sorted(set.intersection(*(set(run) for run in points)))
    if not steps:
        raise ValueError(
            f"Expected {key!r} in every history of {label!r}. Received: histories "
            "without it"
        )
    values = np.array([[run[step] for step in steps] for run in points])
    axes.plot(steps, values.mean(axis=0), label=label, color=colour, lw=1.2)
    axes.fill_between(
        steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0
    )


def heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    labels: Sequence[str],
) -> Figure:
    """Differences from the baseline over two settings, red below zero, blue above.

    Args:
        values: (rows, columns), in points.
        rows: their settings.
        columns: their settings.
        labels: of the vertical axis, the horizontal one, and the values: the title.
    """
    drawing = Figure((WIDTH / 2, 2.8), layout="constrained")
    axes = drawing.add_subplot()
    limit = float(np.abs(values).max()) or 1.0
    image = axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylabel(labels[0])
    axes.set_xlabel(labels[1])
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if abs(value) > 0.6 * limit else "black"
        text = axes.annotate(f"{value:+.2f}", (column, row), fontsize=8, color=colour)
        text.set(ha="center", va="center")
    axes.set_title(labels[2], fontsize=8)
    drawing.colorbar(image)
    return drawing
