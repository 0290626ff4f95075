"""A weighted sum of losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import check_one_weight_per_class, expect, is_number
from tf_levelset.labels import Labels
from tf_levelset.losses.base import SegmentationLoss


@compat.register
class LossSum(SegmentationLoss):
    """Weighted sum of losses, such as cross-entropy plus Dice.

    Args:
        losses: One or more losses of this package. They must have the same
            `from_logits`, `ignore_class` and `reduction`, which the sum takes over.
        weights: A finite number of zero or more for each loss. The default is 1.
        name: Name of the loss.
        dtype: Dtype of the sum. Each loss computes in its own dtype.

    The call arguments and errors are those of `SegmentationLoss`.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> loss = LossSum([FocalLoss(), DiceLoss()], weights=[1.0, 0.5])
    >>> round(float(loss(labels, probabilities)), 4)
    0.178
    """

    def __init__(
        self,
        losses: Sequence[SegmentationLoss],
        weights: Sequence[float] | None = None,
        name: str | None = "loss_sum",
        dtype: Any = None,
    ) -> None:
        losses = list(losses)
        weights = [1.0] * len(losses) if weights is None else list(weights)
        _check_losses(losses, weights)
        first = losses[0]
        super().__init__(
            from_logits=first.from_logits,
            ignore_class=first.ignore_class,
            reduction=first.reduction,
            name=name,
            dtype=dtype,
        )
        self.losses = losses
        self.weights = [float(w) for w in weights]

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns the weighted sum of the losses of each pixel, (B, N)."""
        total = tf.zeros(tf.shape(labels.ids), scores.dtype)
        for loss, weight in zip(self.losses, self.weights, strict=True):
            check_one_weight_per_class(loss.class_weight, scores.shape[-1])
            losses = loss.pixel_losses(labels, tf.cast(scores, loss.dtype))
            total += weight * tf.cast(losses, total.dtype)
        return total

    def reading(self, **form: bool) -> LossSum:
        """Returns this sum of losses that read scores of another form."""
        total: Any = super().reading(**form)
        total.losses = [loss.reading(**form) for loss in self.losses]
        return total

    def pools_batch(self) -> bool:
        """Whether one of the losses depends on the images of the batch together."""
        return any(loss.pools_batch() for loss in self.losses)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        config = super().get_config()
        return {
            "losses": [keras.losses.serialize(loss) for loss in self.losses],
            "weights": self.weights,
            "name": config["name"],
            "dtype": config["dtype"],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LossSum:
        """Recreates the sum and its losses from `get_config`."""
        losses = [keras.losses.deserialize(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})


def _check_losses(losses: list[SegmentationLoss], weights: list[float]) -> None:
    known = all(isinstance(loss, SegmentationLoss) for loss in losses)
    expect(
        losses != [] and known,
        "`losses` to hold one or more losses of tf_levelset",
        losses,
    )
    finite = all(is_number(w) and 0 <= w < float("inf") for w in weights)
    expect(
        len(weights) == len(losses) and finite,
        f"`weights` to hold {len(losses)} finite numbers of zero or more",
        weights,
    )
    for name in ("from_logits", "ignore_class", "reduction"):
        values = [getattr(loss, name) for loss in losses]
        same = all(value == values[0] for value in values)
        expect(same, f"losses that have the same `{name}`", values)
