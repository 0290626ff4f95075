"""Drawn values are the energy's own; zooms are where predictions differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tf_levelset.energy.energy import level_set_energy
from tf_levelset.energy.options import HEAVISIDES
from tf_levelset.reporting.level_sets import (
    ZOOM,
    diverging,
    level_set_panel,
    level_sets,
    places,
)

SIZE = (90, 120)


def scene() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.zeros(SIZE, np.uint8)
    labels[20:70, 30:60] = 1
    labels[60:, 80:] = 2
    labels[:5] = 255
    logits = rng.normal(0, 2, (*SIZE, 3))
    exponentials = np.exp(logits)
    return labels, exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("heaviside", sorted(HEAVISIDES))
def test_energies_add_up_to_equation_4(heaviside: str) -> None:
    labels, probabilities = scene()
    options: dict[str, Any] = {"heaviside": heaviside, "epsilon": 0.3}
    total = sum(
        level_sets(labels, probabilities, index, **options)["energy"].sum()
        for index in range(3)
    )
    (expected,) = level_set_energy(
        labels[np.newaxis], probabilities[np.newaxis], ignore_class=255, **options
    )
    np.testing.assert_allclose(total, expected, rtol=1e-9)
    found = level_sets(labels, probabilities, 1, **options)
    np.testing.assert_allclose(found["phi"], probabilities[..., 1] - 0.5)
    assert (found["energy"][labels == 255] == 0).all()
    assert ((found["region"] >= 0) & (found["region"] <= 1)).all()


def test_a_region_of_nothing_has_no_mean() -> None:
    labels = np.zeros((4, 5), np.uint8)
    probabilities = np.zeros((4, 5, 2))
    probabilities[..., 0] = 1
    found = level_sets(labels, probabilities, 1, heaviside="hf")
    assert np.isfinite(found["energy"]).all()


def test_bad_input_raises() -> None:
    labels, probabilities = scene()
    with pytest.raises(ValueError, match=r"labels of shape \(90, 120\)"):
        level_sets(labels[1:], probabilities, 0)
    with pytest.raises(ValueError, match=r"a class in \[0, 3\)"):
        level_sets(labels, probabilities, 3)


def test_panels_have_a_row_a_class_and_three_columns_a_prediction() -> None:
    labels, probabilities = scene()
    image = np.zeros((*SIZE, 3), np.uint8)
    drawn = level_set_panel(
        image,
        labels,
        {"before": probabilities, "after": probabilities},
        {"one": 1, "two": 2},
        width=SIZE[1],
    )
    assert drawn.shape == (22 + 2 * (SIZE[0] + 4), 8 * (SIZE[1] + 4) - 4, 3)
    phi = drawn[22 : 22 + SIZE[0], 2 * (SIZE[1] + 4) :][:, : SIZE[1]]
    np.testing.assert_array_equal(phi, diverging(2 * probabilities[..., 1] - 1))


def test_places_are_where_predictions_differ_near_boundaries() -> None:
    labels = np.zeros((200, 300), np.uint8)
    labels[:, 150:] = 1
    first, second = labels.copy(), labels.copy()
    second[10:30, 148:150] = 1  # along the boundary
    second[100:110, 151:153] = 0  # less, further down
    second[50:90, 250:290] = 2  # far from it
    found = places(labels, [first, second], 5)
    assert len(found) == 2
    for (top, left), row in zip(found, (20, 105), strict=True):
        assert top <= row < top + ZOOM
        assert left <= 150 < left + ZOOM
    # One mask is held against the truth; void and equal masks show nothing.
    assert places(labels, [second], 1) == found[:1]
    assert places(np.full_like(labels, 255), [first, second], 2) == []
    assert places(labels, [first, first], 2) == []
