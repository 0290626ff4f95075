"""What the losses over label maps have in common: labels, void, weights, reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import check_bool, check_ignore_class, check_numeric
from tf_levelset.energy.energy import check_class_weight, check_options, floating_scores
from tf_levelset.labels import Labels, parse_labels

_TOTALS = ("sum", "none", None)


class SegmentationLoss(compat.Loss):
    """A Keras loss of class scores against a label map. Subclass, do not instantiate.

    A subclass writes `pixel_losses` and, for arguments of its own, `get_config`.

    Args:
        from_logits: whether y_pred holds logits rather than probabilities.
        ignore_class: label of void pixels, which are left out of the image.
        class_weight: C numbers; each multiplies what its class contributes. Two,
            background and foreground, for a sigmoid output.
        reduction: as in Keras. The loss of a pixel is scaled so that the plain mean
            over all positions is the loss.
        name: name of the loss.
        dtype: dtype of the computation; below 32 bits, float32 is used.

    Call arguments:
        y_true: labels (B, …) or (B, …, 1) of any integer dtype, or one-hot (B, …, C);
            any number of spatial axes. A one-hot row of zeros is void.
        y_pred: (B, …, C), or (B, …, 1) for a binary task with a sigmoid.
        sample_weight: scalar, (B,) or (B, …); multiplies the losses of the pixels.

    Raises:
        ValueError: for unknown options and for shapes that do not belong together.
        tf.errors.InvalidArgumentError: for a label that is neither a class nor
            `ignore_class`. XLA drops assertions: the loss is NaN there.
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        # The class weights are what is to be checked; the others are valid.
        check_options("mahf", 1.0, "sum", class_weight)
        check_ignore_class(ignore_class)
        check_bool(from_logits=from_logits)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = bool(from_logits)
        self.ignore_class = None if ignore_class is None else int(ignore_class)
        self.class_weight = (
            None if class_weight is None else [float(w) for w in class_weight]
        )

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> tf.Tensor:
        """Returns the reduced loss; see the class for shapes."""
        # Here, because Keras casts both first.
        check_numeric("y_true", y_true)
        check_numeric("y_pred", y_pred)
        if sample_weight is not None:
            y_pred = tf.convert_to_tensor(y_pred)
            sample_weight = _pixel_weights(sample_weight, y_pred, self.dtype)
            if self.reduction == "mean_with_sample_weight":
                labels, _ = self._parse(tf.convert_to_tensor(y_true), y_pred)
                sample_weight = _void_weights(sample_weight, labels.valid)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each pixel, (B, …)."""
        labels, scores = self._parse(y_true, y_pred)
        losses = self.pixel_losses(labels, scores)
        nan = tf.constant(float("nan"), losses.dtype)
        losses = tf.where(labels.invalid, nan, losses)
        return tf.reshape(losses, tf.shape(scores)[:-1])

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns losses (B, N) whose mean over all positions is the loss.

        Args:
            labels: ground truth with N positions.
            scores: (B, …, C) in the loss's dtype, a one-channel output made two.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
            "class_weight": self.class_weight,
        }

    def _parse(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[Labels, tf.Tensor]:
        scores = tf.cast(floating_scores(y_pred, self.from_logits), self.dtype)
        check_class_weight(self.class_weight, scores.shape[-1])
        y_true = tf.convert_to_tensor(y_true)
        return parse_labels(y_true, scores, self.ignore_class), scores

    def _weigh_classes(self, losses: tf.Tensor, labels: Labels) -> tf.Tensor:
        """Multiplies losses (B, N) by the weights of their pixels' classes."""
        if self.class_weight is None:
            return losses
        return losses * tf.gather(
            tf.constant(self.class_weight, losses.dtype), labels.ids
        )

    def _mean_of_valid(self, losses: tf.Tensor, labels: Labels) -> tf.Tensor:
        """Scales losses (B, N), zero on void, to a mean over the valid pixels.

        As Keras' own with `ignore_class`, but over the batches of all replicas, where
        void may be spread unevenly. The sum and the single losses, which are no means,
        stay as they are.
        """
        if self.reduction in _TOTALS:
            return losses
        valid = tf.cast(labels.valid, losses.dtype)
        return losses * tf.math.divide_no_nan(
            tf.cast(tf.size(valid), losses.dtype),
            _mean_of_replicas(tf.reduce_sum(valid)),
        )


def cross_entropy(labels: Labels, scores: tf.Tensor, from_logits: bool) -> tf.Tensor:
    """Keras' cross-entropy of each pixel, (B, N), zero on void.

    Args:
        labels: ground truth with N positions.
        scores: (B, …, C).
        from_logits: whether the scores are logits.
    """
    losses = keras.losses.sparse_categorical_crossentropy(
        labels.ids, zero_on_void(labels, scores), from_logits=from_logits
    )
    return tf.where(labels.valid, losses, 0)


def zero_on_void(labels: Labels, scores: tf.Tensor) -> tf.Tensor:
    """Scores (B, N, C), whose values on void may be anything, NaN too, and are zero."""
    return tf.where(labels.valid[..., tf.newaxis], flattened(labels, scores), 0)


def flattened(labels: Labels, scores: tf.Tensor) -> tf.Tensor:
    """Scores (B, …, C) with their spatial axes in one, (B, N, C)."""
    shape = tf.concat([tf.shape(labels.ids), [scores.shape[-1]]], axis=0)
    return tf.reshape(scores, shape)


def rows(tensor: tf.Tensor, per_image: bool) -> tf.Tensor:
    """Keeps (B, N, …), or makes one row of the batch, (1, B·N, …)."""
    return tensor if per_image else tf.reshape(tensor, [1, -1, *tensor.shape[2:]])


def scaled(addends: tf.Tensor, labels: Labels) -> tf.Tensor:
    """Scales addends (R, M) of each row's loss to (B, N) whose mean is the loss."""
    positions = tf.cast(tf.shape(addends)[1], addends.dtype)
    return tf.reshape(addends * positions, tf.shape(labels.ids))


def _mean_of_replicas(number: tf.Tensor) -> tf.Tensor:
    """Returns a number's mean over the replicas, where they train together."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return number
    return replica.all_reduce(tf.distribute.ReduceOp.MEAN, number)


def _pixel_weights(sample_weight: Any, y_pred: tf.Tensor, dtype: Any) -> tf.Tensor:
    """Broadcasts scalar, (B,) or (B, …) weights to one a pixel.

    Keras would broadcast a (B,) weight along the pictures' last axis: an error, or
    silently wrong where that is as long as the batch.
    """
    weight = tf.convert_to_tensor(sample_weight)
    check_numeric("sample_weight", weight)
    weight = tf.cast(weight, dtype)
    received, target = weight.shape, y_pred.shape[:-1]
    if weight.shape.rank == target.rank + 1 and weight.shape[-1] == 1:
        weight = tf.squeeze(weight, axis=-1)
    rank = weight.shape.rank
    if (
        rank is not None
        and 0 < rank < target.rank
        and all(size == 1 for size in weight.shape[1:])
    ):
        ones = [1] * (target.rank - 1)
        weight = tf.reshape(weight, tf.stack([tf.shape(weight)[0], *ones]))
    if rank is None or not _broadcasts(weight.shape, target):
        raise ValueError(
            f"Expected sample_weight of shape (), {target[:1]} or {target}. "
            f"Received: {received}"
        )
    return tf.broadcast_to(weight, tf.shape(y_pred)[:-1])


def _void_weights(weight: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Gives void pixels the mean weight of the valid ones.

    Their losses are zero, so they enter only the divisor of a weighted mean, the sum
    of the weights. That sum then is N/n_valid times the valid pixels', as the losses
    themselves are.
    """
    valid = tf.reshape(valid, tf.shape(weight))
    kept = tf.where(valid, weight, 0)
    count = tf.cast(tf.math.count_nonzero(valid), weight.dtype)
    return tf.where(valid, kept, tf.math.divide_no_nan(tf.reduce_sum(kept), count))


def _broadcasts(weight: tf.TensorShape, target: tf.TensorShape) -> bool:
    """Tells whether weights are scalar, or one or full-sized along each axis."""
    if weight.rank == 0:
        return True
    return weight.rank == target.rank and all(
        size in (1, None) or full is None or size == full
        for size, full in zip(weight, target, strict=True)
    )
