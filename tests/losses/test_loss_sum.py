"""Sums of losses."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from loss_tester import ON_LOGITS, LossTester, batch, check_round_trip

from tf_levelset.losses import (
    BoundaryLoss,
    CrossEntropyLevelSetLoss,
    DiceLoss,
    FocalLoss,
    LossSum,
    LovaszSoftmaxLoss,
    SegmentationLoss,
)


class TestLossSum(LossTester):
    """Cross-entropy plus half a Dice loss; options are those of both."""

    loss = LossSum
    options: ClassVar[dict[str, Any]] = {}
    averages_images = False

    def make(self, **options: Any) -> SegmentationLoss:
        dtype = options.get("dtype")
        options = {**ON_LOGITS, **options}
        parts = [CrossEntropyLevelSetLoss(0.0, **options), DiceLoss(**options)]
        return LossSum(parts, [1.0, 0.5], dtype=dtype)

    def test_configuration_round_trip(self) -> None:
        options = {**ON_LOGITS, "reduction": "sum"}
        parts = [cls(**options) for cls in (FocalLoss, LovaszSoftmaxLoss)]
        first = LossSum(parts, [1.0, 0.25], name="mine", dtype="float64")
        assert first.reduction == "sum"
        check_round_trip(first)
        check_round_trip(LossSum([first, *parts]))

    def test_bad_options_raise(self) -> None:
        for weights in ([-1.0], [float("nan")], ["a"], [1.0, 2.0]):
            with pytest.raises(ValueError, match="Expected `weights` to hold 1 finite"):
                LossSum([FocalLoss()], weights)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("losses", "message"),
        [
            ([], "one or more losses"),
            ([keras.losses.BinaryCrossentropy()], "one or more losses"),
            ([FocalLoss(), DiceLoss(from_logits=True)], "the same `from_logits`"),
            ([FocalLoss(), DiceLoss(ignore_class=0)], "the same `ignore_class`"),
            ([FocalLoss(), DiceLoss(reduction="sum")], "the same `reduction`"),
        ],
    )
    def test_losses_that_do_not_belong_together_raise(
        self, losses: Any, message: str
    ) -> None:
        with pytest.raises(ValueError, match=f"Expected .*{message}.* Received"):
            LossSum(losses)

    def test_value(self) -> None:
        labels, logits = batch()
        parts = [cls(**ON_LOGITS) for cls in (FocalLoss, DiceLoss, BoundaryLoss)]
        focal, dice, boundary = (part(labels, logits) for part in parts)
        total = LossSum(parts, weights=[1, 0, 0.3])(labels, logits)
        np.testing.assert_allclose(total, focal + 0.3 * boundary, rtol=1e-6)
        nested = LossSum([LossSum(parts), parts[0]], weights=[1.0, 2.0])
        expected = 3 * focal + dice + boundary
        np.testing.assert_allclose(nested(labels, logits), expected, rtol=1e-6)
