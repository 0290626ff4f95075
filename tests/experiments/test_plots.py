"""The figures show what the results say."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from made_up_results import result
from matplotlib.lines import Line2D

from experiments import plots

RESULTS = [
    result("ce", 0, 0.5),
    result("ce", 1, 0.6),
    result("worse", 0, 0.4),
    result("worse", 1, 0.5),
    result("better", 0, 0.52),
    result("better", 1, 0.64),
]


def x_of(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xdata(), np.float64)


def y_of(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata(), np.float64)


def test_differences_have_pairs_means_and_intervals() -> None:
    third = [result("ce", 2, 0.5), result("better", 2, 0.53)]
    quantities = {"mIoU": lambda e: e["mean_iou"]}
    drawing = plots.differences([*RESULTS, *third], "ce", quantities)
    (axes,) = drawing.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "worse"]
    points, interval, mean = axes.lines[:3]
    np.testing.assert_allclose(x_of(points), [2, 4, 3])
    # t(2) = 4.3027 at 95 %, s = 1.
    half_width = 4.3027 / 3**0.5
    np.testing.assert_allclose(x_of(interval), [3 - half_width, 3 + half_width], 1e-4)
    np.testing.assert_allclose(x_of(mean), [3])
    # Two pairs have no interval.
    assert [len(x_of(line)) for line in axes.lines[3:5]] == [2, 1]


def test_curves_are_means_of_the_pairs() -> None:
    drawing = plots.curves(RESULTS, ["ce", "better"])
    cross_entropy, _, mean_iou = drawing.axes
    np.testing.assert_allclose(x_of(cross_entropy.lines[0]), [10, 20])
    np.testing.assert_allclose(y_of(cross_entropy.lines[0]), [0.055, 0.0275])
    # Of the epochs that were validated.
    np.testing.assert_allclose(x_of(mean_iou.lines[1]), [20])
    np.testing.assert_allclose(y_of(mean_iou.lines[1]), [0.58])


def test_curves_of_nothing_raise() -> None:
    bare = [{**RESULTS[0], "history": [{"step": 1, "loss": 1.0}]}]
    with pytest.raises(ValueError, match="'cross_entropy' in every history of 'ce'"):
        plots.curves(bare, ["ce"])


def test_a_heat_map_names_its_values() -> None:
    values = np.array([[1.0, -2.0], [0.5, 0.25]])
    axes = plots.heat_map(values, ["1", "3"], ["a", "b"], ["λ", "ε", "mIoU"]).axes[0]
    assert [text.get_text() for text in axes.texts] == [
        "+1.00",
        "-2.00",
        "+0.50",
        "+0.25",
    ]
    assert [text.get_color() for text in axes.texts] == ["black", "white"] + [
        "black"
    ] * 2
    assert axes.get_title() == "mIoU"
    assert axes.images[0].get_clim() == (-2, 2)
