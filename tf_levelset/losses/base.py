"""The base of all segmentation losses: labels, void, weights and the reduction.

CONTRIBUTING.md says how to add one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import (
    check_ignore_class,
    check_numeric,
    check_one_weight_per_class,
    class_weights,
    plain_options,
)
from tf_levelset.labels import Labels, Masked, nan_where, parse_labels
from tf_levelset.losses.replicas import (
    loss_of_all,
    mean_of_replicas,
    on_whole_batch,
)
from tf_levelset.scores import activation_logits, floating_scores

_TOTALS = ("sum", "none", None)


class SegmentationLoss(compat.Loss):
    """Base of the Keras losses that compare class scores with a label map.

    A subclass implements `pixel_losses` and, if it has arguments of its own,
    `get_config`. In distributed training, the loss and its gradient are those of the
    batches of all replicas together.

    Args:
        from_logits: Whether `y_pred` holds logits rather than probabilities. As in
            Keras, the loss reads the logits of a softmax, or of a sigmoid with one
            channel, if `y_pred` is its output. Cross-entropies clip other
            probabilities at 1e-7, as Keras' do.
        ignore_class: Label of void pixels, which do not belong to the image.
        class_weight: C numbers that multiply the contributions of the classes. Two,
            background and foreground, for a sigmoid output.
        reduction: As in Keras. The loss of a pixel is scaled so that the plain mean
            over all positions is the loss.
        name: Name of the loss.
        dtype: Dtype of the computation; below 32 bits, float32 is used.

    Call arguments:
        y_true: Labels (B, …) or (B, …, 1) of any integer dtype, or one-hot (B, …, C),
            with any number of spatial axes. A one-hot row of zeros is void.
        y_pred: (B, …, C), or (B, …, 1) for a binary task with a sigmoid. What a Keras
            mask of the outputs leaves out is void.
        sample_weight: Scalar, (B,) or (B, …); multiplies the losses of the pixels.

    Raises:
        ValueError: For unknown options and for shapes that do not match.
        tf.errors.InvalidArgumentError: For a label that is neither a class nor
            `ignore_class`. XLA drops assertions: the loss is NaN there.
    """

    one_channel = False
    """Whether `pixel_losses` is given the probabilities of a sigmoid output."""

    @plain_options
    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        check_ignore_class(ignore_class)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        self.class_weight = class_weights(class_weight)

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> tf.Tensor:
        """Returns the reduced loss; see the class for shapes."""
        # Checked here, because Keras casts both before `call`.
        check_numeric("y_true", y_true)
        check_numeric("y_pred", y_pred)
        mask = compat.keras_mask(y_pred)
        loss, logits = self, activation_logits(y_pred)
        if logits is not None:
            if self.from_logits:
                warnings.warn(
                    "Expected y_pred to hold logits, because from_logits=True. "
                    "Received: the output of a softmax or sigmoid, whose logits are "
                    "used. Set from_logits=False, or remove the activation.",
                    stacklevel=2,
                )
            loss, y_pred = self.reading(from_logits=True), logits
        if mask is not None:
            # Keras would only multiply the losses by it. The identity has no mask.
            y_true = Masked(tf.convert_to_tensor(y_true), mask)
            y_pred = tf.identity(y_pred)
        size = tf.size(y_pred)
        if sample_weight is not None:
            y_pred = tf.convert_to_tensor(y_pred)
            sample_weight = _pixel_weights(sample_weight, y_pred, self.dtype)
            if self.reduction == "mean_with_sample_weight":
                labels, _ = loss._parse(y_true, y_pred)
                sample_weight = _void_weights(sample_weight, labels.valid)
                size = tf.reduce_sum(sample_weight)
        value = super(SegmentationLoss, loss).__call__(y_true, y_pred, sample_weight)
        if self.reduction in ("none", None):
            return value
        return loss_of_all(value, 1 if self.reduction == "sum" else size)

    def call(self, y_true: Any, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each pixel, (B, …)."""
        labels, scores = self._parse(y_true, y_pred)
        one_channel = not self.from_logits and y_pred.shape[-1] == 1
        pixel_losses = self.reading(one_channel=one_channel).pixel_losses
        if self.pools_batch():
            losses = on_whole_batch(pixel_losses, labels, scores)
        else:
            losses = pixel_losses(labels, scores)
        losses = nan_where(labels.invalid, losses)
        return tf.reshape(losses, tf.shape(scores)[:-1])

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns losses (B, N) whose mean over all positions is the loss.

        Args:
            labels: Ground truth with N positions.
            scores: (B, …, C) in the dtype of the loss. A one-channel output has been
                written as two channels.
        """
        raise NotImplementedError

    def reading(self, **form: bool) -> SegmentationLoss:
        """Returns this loss for scores of another form.

        Args:
            **form: New values of `from_logits` or `one_channel`.
        """
        loss = object.__new__(type(self))
        loss.__dict__.update(self.__dict__, **form)
        return loss

    def pools_batch(self) -> bool:
        """Whether the loss depends on the images of the batch together."""
        return not getattr(self, "per_image", True)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        weights = self.class_weight
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
            "class_weight": None if weights is None else list(weights),
        }

    def _parse(self, y_true: Any, y_pred: tf.Tensor) -> tuple[Labels, tf.Tensor]:
        y_true, mask = y_true if isinstance(y_true, Masked) else (y_true, None)
        scores = tf.cast(floating_scores(y_pred, self.from_logits), self.dtype)
        check_one_weight_per_class(self.class_weight, scores.shape[-1])
        y_true = tf.convert_to_tensor(y_true)
        labels = parse_labels(y_true, scores, self.ignore_class, mask, self.from_logits)
        return labels, scores

    def _cross_entropy(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns Keras' cross-entropy of each pixel, (B, N), zero on void."""
        scores = zero_on_void(labels, scores)
        if self.one_channel:
            truth = labels.ids[..., tf.newaxis]
            losses = keras.losses.binary_crossentropy(truth, scores[..., 1:])
        else:
            losses = keras.losses.sparse_categorical_crossentropy(
                labels.ids, scores, from_logits=self.from_logits
            )
        return tf.where(labels.valid, losses, 0)

    def _weigh_classes(self, losses: tf.Tensor, labels: Labels) -> tf.Tensor:
        """Multiplies losses (B, N) by the weights of their pixels' classes."""
        if self.class_weight is None:
            return losses
        return losses * tf.gather(
            tf.constant(self.class_weight, losses.dtype), labels.ids
        )

    def _mean_of_valid(self, losses: tf.Tensor, labels: Labels) -> tf.Tensor:
        """Scales losses (B, N), zero on void, so that their mean is over valid pixels.

        This is Keras' rule for `ignore_class`, applied to the batches of all replicas
        together, which may hold different amounts of void. The reductions "sum" and
        "none" are not means, so the losses are left unchanged.
        """
        if self.reduction in _TOTALS:
            return losses
        valid = tf.cast(labels.valid, losses.dtype)
        counts = tf.stack([tf.cast(tf.size(valid), losses.dtype), tf.reduce_sum(valid)])
        size, num_valid = tf.unstack(mean_of_replicas(counts))
        return losses * tf.math.divide_no_nan(size, num_valid)


def zero_on_void(labels: Labels, scores: tf.Tensor) -> tf.Tensor:
    """Returns scores (B, N, C) that are zero on void, where they may have been NaN."""
    return tf.where(labels.valid[..., tf.newaxis], flattened(labels, scores), 0)


def flattened(labels: Labels, scores: tf.Tensor) -> tf.Tensor:
    """Returns scores (B, …, C) with one spatial axis, (B, N, C)."""
    shape = tf.concat([tf.shape(labels.ids), [scores.shape[-1]]], axis=0)
    return tf.reshape(scores, shape)


def rows(tensor: tf.Tensor, per_image: bool) -> tf.Tensor:
    """Returns (B, N, …) as it is, or the batch as one row, (1, B·N, …)."""
    return tensor if per_image else tf.reshape(tensor, [1, -1, *tensor.shape[2:]])


def scaled(addends: tf.Tensor, labels: Labels) -> tf.Tensor:
    """Scales addends (R, M) of the rows' losses to (B, N), whose mean is the loss."""
    positions = tf.cast(tf.shape(addends)[1], addends.dtype)
    return tf.reshape(addends * positions, tf.shape(labels.ids))


def _pixel_weights(sample_weight: Any, y_pred: tf.Tensor, dtype: Any) -> tf.Tensor:
    """Broadcasts scalar, (B,) or (B, …) weights to one weight per pixel.

    Keras would broadcast a (B,) weight along the last axis of the images, which is an
    error, or silently wrong where that axis is as long as the batch.
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
            f"Received: {received}. If you did not pass any, they come from Keras' "
            "`fit(class_weight=...)`, which does not fit labels of images: set the "
            "argument `class_weight` of the loss instead."
        )
    return tf.broadcast_to(weight, tf.shape(y_pred)[:-1])


def _void_weights(weight: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Gives void pixels the mean weight of the valid ones.

    Void pixels have zero loss but count in the divisor, Σ weights. Giving them the mean
    valid weight makes the divisor N/n_valid times the valid sum, which cancels the same
    factor in the losses.
    """
    valid = tf.reshape(valid, tf.shape(weight))
    kept = tf.where(valid, weight, 0)
    count = tf.cast(tf.math.count_nonzero(valid), weight.dtype)
    total, count = tf.unstack(mean_of_replicas(tf.stack([tf.reduce_sum(kept), count])))
    return tf.where(valid, kept, tf.math.divide_no_nan(total, count))


def _broadcasts(weight: tf.TensorShape, target: tf.TensorShape) -> bool:
    """Whether weights are a scalar, or of size one or full size along each axis."""
    if weight.rank == 0:
        return True
    return weight.rank == target.rank and all(
        size in (1, None) or full is None or size == full
        for size, full in zip(weight, target, strict=True)
    )
