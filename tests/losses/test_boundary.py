"""The boundary loss; its values are held to loops by `test_loss_properties`."""

from __future__ import annotations

from typing import Any, ClassVar

from loss_tester import ClassAverageTester

from tf_levelset.losses import BoundaryLoss


class TestBoundaryLoss(ClassAverageTester):
    loss = BoundaryLoss
    options: ClassVar[dict[str, Any]] = {"normalize": True, "classes": [0, 2]}
    bad_options: ClassVar[dict[str, list[Any]]] = {}
    compiles = False
