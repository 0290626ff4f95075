"""The active contour loss; its values are held to loops by `test_loss_properties`."""

from __future__ import annotations

from typing import Any, ClassVar

from loss_tester import INFINITY, NAN, ClassAverageTester

from tf_levelset.losses import ActiveContourLoss


class TestActiveContourLoss(ClassAverageTester):
    loss = ActiveContourLoss
    options: ClassVar[dict[str, Any]] = {
        "length_weight": 0.5,
        "region_weight": 2.0,
        "inside_weight": 3.0,
        "classes": "all",
    }
    bad_options: ClassVar[dict[str, list[Any]]] = {
        "length_weight": [-1.0, "a"],
        "region_weight": [INFINITY, None],
        "inside_weight": [NAN],
    }
