"""Keras losses over the level set energy (Kim et al. 2019, Eq. 4–8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.energy import (
    check_class_weight,
    check_options,
    energy_density,
    floating_scores,
)
from tf_levelset.labels import Labels, parse_labels

_TOTALS = ("sum", "none", None)


@compat.register
class LevelSetLoss(compat.Loss):
    """The level set energy as a loss (Kim et al. 2019, Eq. 4–7).

    For each image the Chan–Vese energy of every class's probability map against its
    binary ground truth, averaged over the images of the batch. It works on boundaries
    and on undecided pixels: those whose probability is further than about 3ε from ½
    get almost no gradient. It is meant to stand beside a cross-entropy; see
    `CrossEntropyLevelSetLoss`.

    Args:
        from_logits: whether y_pred holds logits rather than probabilities.
        heaviside: "mahf" (the paper's, Eq. 6), "ahf" (Chan and Vese's) or "hf" (sharp;
            trained with MAHF's δ, a straight-through estimator).
        epsilon: width ε of the Heaviside function, in units of probability.
        ignore_class: label of void pixels, which are left out of the image.
        class_weight: C numbers; each multiplies what its class contributes. Two,
            background and foreground, for a sigmoid output.
        normalization: "sum" over the image (the paper's; grows with the resolution),
            "mean" over its valid pixels, or "scale_free": the mean of E_l/T_l in
            [0, 1] over the classes that vary, which weighs a rare class like a common
            one (ours, not the paper's).
        signed: count 2 T_l − E_l where c1 < c2, so that a prediction anticorrelated
            with its class is not rewarded (ours, not the paper's).
        reduction: as in Keras. The loss of a pixel is scaled so that the plain mean
            over all positions is the loss.
        name: name of the loss.
        dtype: dtype of the computation; below 32 bits, float32 is used.

    Call arguments:
        y_true: labels (B, …) or (B, …, 1) of any integer dtype, or one-hot (B, …, C);
            any number of spatial axes. A one-hot row of zeros is void.
        y_pred: (B, …, C), or (B, …, 1) for a binary task with a sigmoid.
        sample_weight: scalar, (B,) or (B, …). Where it varies inside an image, c1 and
            c2 are held fixed in the gradient.

    Raises:
        ValueError: for unknown options and for shapes that do not belong together.
        tf.errors.InvalidArgumentError: for a label that is neither a class nor
            `ignore_class`. XLA drops assertions: the loss is NaN there.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(LevelSetLoss()(labels, probabilities)), 4)
    0.6667

    >>> model.compile("sgd", LevelSetLoss(from_logits=True))  # doctest: +SKIP
    """

    def __init__(
        self,
        from_logits: bool = False,
        heaviside: str = "mahf",
        epsilon: float = 1 / 20,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        normalization: str = "sum",
        signed: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "level_set_loss",
        dtype: Any = None,
    ) -> None:
        check_options(heaviside, epsilon, normalization, class_weight)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = from_logits
        self.heaviside = heaviside
        self.epsilon = epsilon
        self.ignore_class = ignore_class
        self.class_weight = (
            None if class_weight is None else [float(w) for w in class_weight]
        )
        self.normalization = normalization
        self.signed = signed

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> tf.Tensor:
        """Returns the reduced loss; see the class for shapes."""
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
        return tf.reshape(self._energy(labels, scores), tf.shape(scores)[:-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "heaviside": self.heaviside,
            "epsilon": self.epsilon,
            "ignore_class": self.ignore_class,
            "class_weight": self.class_weight,
            "normalization": self.normalization,
            "signed": self.signed,
        }

    def _parse(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[Labels, tf.Tensor]:
        scores = tf.cast(floating_scores(y_pred, self.from_logits), self.dtype)
        y_true = tf.convert_to_tensor(y_true)
        return parse_labels(y_true, scores, self.ignore_class), scores

    def _energy(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Energies (B, N) whose mean over all positions is the mean energy."""
        density = energy_density(
            labels,
            scores,
            from_logits=self.from_logits,
            heaviside=self.heaviside,
            epsilon=self.epsilon,
            class_weight=self.class_weight,
            normalization=self.normalization,
            signed=self.signed,
        )
        return density * tf.cast(tf.shape(density)[1], density.dtype)


@compat.register
class CrossEntropyLevelSetLoss(LevelSetLoss):
    """Cross-entropy plus λ times the level set energy (Kim et al. 2019, Eq. 8).

    The paper's λ = 4·10⁻⁴ multiplies an energy summed over the image, so what it
    weighs depends on the resolution. It holds at output stride 8, where DeepLab takes
    its loss: a crop of 321 gives n = 41·41 positions and λ·n = 0.67, one of 512 gives
    64·64 and 1.64. At full resolution the same λ weighs 41 and 105. The form that does
    not depend on it is `normalization="mean"` with `level_set_weight` = λ·n.

    Args:
        level_set_weight: λ, zero or more. With 0 the loss is Keras'
            `SparseCategoricalCrossentropy(from_logits, ignore_class)`, but that a
            batch of nothing but void is 0.0 in every version of Keras.
        from_logits: see `LevelSetLoss`, and so the others.
        heaviside: "mahf", "ahf" or "hf".
        epsilon: width ε of the Heaviside function.
        ignore_class: label of void pixels; the cross-entropy is a mean over the others.
        class_weight: C numbers; they multiply the cross-entropy of the class's pixels
            and the class's energy.
        normalization: "sum", "mean" or "scale_free".
        signed: whether an anticorrelated class costs 2 T_l − E_l.
        reduction: as in Keras; the sum and the single losses, which are no means, hold
            each pixel's cross-entropy as it is.
        name: name of the loss.
        dtype: dtype of the computation; below 32 bits, float32 is used.

    Call arguments and errors: as `LevelSetLoss`. Under `tf.distribute` each replica
    averages over its own valid pixels.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> logits = tf.constant([[[[3.0, 0.0], [0.0, 1.0]]]])
    >>> loss = CrossEntropyLevelSetLoss(level_set_weight=0.5, from_logits=True)
    >>> round(float(loss(labels, logits)), 4)
    0.181

    >>> model.compile("sgd", loss, metrics=["accuracy"])  # doctest: +SKIP
    """

    def __init__(
        self,
        level_set_weight: float = 4e-4,
        from_logits: bool = False,
        heaviside: str = "mahf",
        epsilon: float = 1 / 20,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        normalization: str = "sum",
        signed: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "cross_entropy_level_set_loss",
        dtype: Any = None,
    ) -> None:
        if not 0 <= level_set_weight < float("inf"):
            raise ValueError(
                "Expected `level_set_weight` to be a finite number of zero or more. "
                f"Received: {level_set_weight!r}"
            )
        super().__init__(
            from_logits=from_logits,
            heaviside=heaviside,
            epsilon=epsilon,
            ignore_class=ignore_class,
            class_weight=class_weight,
            normalization=normalization,
            signed=signed,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.level_set_weight = level_set_weight

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each pixel, (B, …)."""
        labels, scores = self._parse(y_true, y_pred)
        loss = self._cross_entropy(labels, scores)
        if self.level_set_weight > 0:
            loss += self.level_set_weight * self._energy(labels, scores)
        return tf.reshape(loss, tf.shape(scores)[:-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {**super().get_config(), "level_set_weight": self.level_set_weight}

    def _cross_entropy(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Cross-entropies (B, N), zero on void."""
        num_classes = scores.shape[-1]
        check_class_weight(self.class_weight, num_classes)
        shape = tf.concat([tf.shape(labels.ids), [num_classes]], axis=0)
        loss = keras.losses.sparse_categorical_crossentropy(
            labels.ids, tf.reshape(scores, shape), from_logits=self.from_logits
        )
        valid = tf.cast(labels.valid, loss.dtype)
        weight = valid
        if self.class_weight is not None:
            weight *= tf.gather(tf.constant(self.class_weight, loss.dtype), labels.ids)
        if self.reduction not in _TOTALS:
            # A mean over valid pixels, as Keras' own with `ignore_class`.
            weight *= tf.math.divide_no_nan(
                tf.cast(tf.size(valid), loss.dtype), tf.reduce_sum(valid)
            )
        loss = tf.where(labels.valid, loss * weight, 0)
        return tf.where(labels.invalid, tf.constant(float("nan"), loss.dtype), loss)


def _pixel_weights(sample_weight: Any, y_pred: tf.Tensor, dtype: Any) -> tf.Tensor:
    """Broadcasts scalar, (B,) or (B, …) weights to one a pixel.

    Keras would broadcast a (B,) weight along the pictures' last axis: an error, or
    silently wrong where that is as long as the batch.
    """
    weight = tf.cast(tf.convert_to_tensor(sample_weight), dtype)
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
            f"Expected sample_weight of shape (), ({target[0]},) or {target}. "
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
