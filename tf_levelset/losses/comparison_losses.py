"""The losses that the level set loss is compared with, and the sum of losses.

Loss max-pooling and locally adaptive learning are those of Table 5, the focal loss is
that of Section 2.4; Dice, Lovász, boundary and active contour losses are what one would
try instead. Each is a pure function of tensors, and a Keras class over it.

The loss of an image is a sum over its pixels here, and `call` returns the addends,
scaled so that their plain mean over all positions is the loss. Sample weights multiply
addends: weights (B,) weigh images. What an addend was computed with, such as the order
of the pixels or the sums of a region, is that of the pixels without their weights.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage

from tf_levelset import compat, xla
from tf_levelset.checks import is_number, is_whole
from tf_levelset.energy.energy import check_class_weight
from tf_levelset.labels import Labels
from tf_levelset.losses.base import (
    SegmentationLoss,
    cross_entropy,
    flattened,
    rows,
    scaled,
    zero_on_void,
)

Classes = str | Sequence[int]
"""Classes to average over: "present", "all" or their ids."""

MERGES = ("logits", "probabilities")

_VOID = -1
"""The class of void in maps of classes."""

_SQUARED_LENGTH_FLOOR = 1e-8
"""What keeps the square root in a contour's length differentiable."""


# --- Cross-entropies with other weights ---


@compat.register
class FocalLoss(SegmentationLoss):
    """The focal loss α (1 − p)^γ (−log p), p that of the true class (Lin et al. 2017).

    A mean over the valid pixels of the batch. The values are those of Keras'
    `CategoricalFocalCrossentropy`, but taken from the log-probability: Keras clips the
    softmax at 1e-7, which leaves the pixels that are most wrong without a gradient.

    Args:
        gamma: γ ≥ 0, how much less a pixel counts that is right already; with 0 the
            loss is α times the cross-entropy.
        alpha: α > 0, a factor of the whole loss; an α a class is a `class_weight`.
        from_logits: see `SegmentationLoss`, and so the others.
        ignore_class: label of void pixels.
        class_weight: C numbers that multiply the losses of the classes' pixels.
        reduction: as in Keras; the sum and the single losses, which are no means, hold
            each pixel's loss as it is.
        name: name of the loss.
        dtype: dtype of the computation.

    Call arguments and errors: as `SegmentationLoss`. Under `tf.distribute` the mean is
    over the valid pixels of all replicas.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(FocalLoss(alpha=1.0)(labels, probabilities)), 4)
    0.0872
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float = 0.25,
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "focal_loss",
        dtype: Any = None,
    ) -> None:
        _expect_not_negative("gamma", gamma)
        _expect_positive("alpha", alpha)
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.gamma = gamma
        self.alpha = alpha

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns losses (B, N) whose mean is that of the valid pixels."""
        losses = cross_entropy(labels, scores, self.from_logits)
        losses = self.alpha * focal_factor(losses, self.gamma) * losses
        return self._mean_of_valid(self._weigh_classes(losses, labels), labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {**super().get_config(), "gamma": self.gamma, "alpha": self.alpha}


def focal_factor(losses: tf.Tensor, gamma: float) -> tf.Tensor:
    """(1 − p)^γ where −log p is given (Lin et al. 2017, Eq. 4); 1 where p = 1."""
    doubt = -tf.math.expm1(-losses)
    # At p = 1 the loss is zero whatever the factor, whose derivative is no number.
    return tf.where(doubt > 0, doubt, 1) ** gamma


@compat.register
class LossMaxPooling(SegmentationLoss):
    """Loss max-pooling, LMP (Rota Bulò et al. 2017): the loss under its worst weights.

    With ℓ the cross-entropies of n valid pixels, m = ⌊ratio·n⌋ and q = p/(p − 1),

        L = max_w Σ w ℓ    subject to ‖w‖_p ≤ n^(−1/q) and 0 ≤ w ≤ n^(−1/q) m^(−1/p),

    solved in closed form. The second bound shares the weight among m pixels at least.
    Where all losses are equal, w = 1/n and L is their mean. Because w is the maximum's,
    its own derivative drops out: the gradient is that of Σ w ℓ with w held fixed.

    Args:
        ratio: in (0, 1], the least share of the pixels that bears the weight. With
            m = 0 the second bound is gone, as it is with m = 1.
        p: of the norm, in (1, ∞); the closer to 1, the more the worst pixels weigh.
        per_image: whether to pool over each image, with the mean over the images as
            the loss, or over the batch. The paper's loss is one of a single image's
            pixels; public ports of it pool over the batch.
        from_logits: see `SegmentationLoss`, and so the others.
        ignore_class: label of void pixels, which n does not count.
        class_weight: C numbers that multiply the cross-entropies before they compete.
        reduction: as in Keras.
        name: name of the loss.
        dtype: dtype of the computation.

    Call arguments and errors: as `SegmentationLoss`. Where it pools over the batch,
    each replica of `tf.distribute` pools over its own.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(LossMaxPooling()(labels, probabilities)), 4)
    0.5232
    """

    def __init__(
        self,
        ratio: float = 0.3,
        p: float = 1.7,
        per_image: bool = True,
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "loss_max_pooling",
        dtype: Any = None,
    ) -> None:
        _expect(is_number(ratio) and 0 < ratio <= 1, "`ratio` in (0, 1]", ratio)
        _expect(is_number(p) and 1 < p < math.inf, "`p` above 1 and finite", p)
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.ratio = ratio
        self.p = p
        self.per_image = per_image

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns w ℓ of each pixel, (B, N), scaled."""
        losses = cross_entropy(labels, scores, self.from_logits)
        losses = rows(self._weigh_classes(losses, labels), self.per_image)
        valid = rows(labels.valid, self.per_image)
        weights = max_pooling_weights(losses, valid, self.ratio, self.p)
        return scaled(weights * losses, labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "p": self.p,
            "per_image": self.per_image,
        }


def max_pooling_weights(
    losses: tf.Tensor, valid: tf.Tensor, ratio: float, p: float
) -> tf.Tensor:
    """The weights of loss max-pooling (Rota Bulò et al. 2017), without a gradient.

    With τ their bound, w = τ where ℓ > α, and τ (ℓ/α)^(q−1) elsewhere. α^q is the sum
    of ℓ^q where ℓ ≤ α, over m less the number k of losses above α. In descending order,
    k is the first number whose α is not below the loss that follows, ℓ_(k+1).

    Args:
        losses: (R, M), zero or more, zero where not valid; each row is pooled.
        valid: bool (R, M).
        ratio: m = ⌊ratio · number of valid pixels⌋, or 1 where that is 0.
        p: of the norm.

    Returns:
        (R, M) in the dtype of the losses, zero where they are.
    """
    q = p / (p - 1)
    exact = tf.cast(tf.stop_gradient(losses), tf.float64)
    n = tf.cast(tf.math.count_nonzero(valid, axis=1, keepdims=True), tf.float64)
    n = tf.maximum(n, 1)
    m = tf.maximum(tf.floor(ratio * n), 1)
    # In logarithms, because the powers of small losses underflow.
    powers = q * tf.math.log(tf.sort(exact, axis=1, direction="DESCENDING"))
    rest = tf.math.cumulative_logsumexp(powers, axis=1, reverse=True)
    k = tf.range(tf.shape(powers)[1])[tf.newaxis]
    left = m - tf.cast(k, tf.float64)
    powers_of_alpha = rest - tf.math.log(tf.maximum(left, 1))
    found = (powers_of_alpha >= powers) | (left <= 1)
    first = tf.reduce_min(tf.where(found, k, k.dtype.max), axis=1, keepdims=True)
    log_alpha = tf.where(k == first, powers_of_alpha / q, 0)
    log_alpha = tf.reduce_sum(log_alpha, axis=1, keepdims=True)
    relative = tf.exp((q - 1) * tf.minimum(tf.math.log(exact) - log_alpha, 0))
    bound = n ** (-1 / q) * m ** (-1 / p)
    return tf.cast(bound * tf.where(exact > 0, relative, 0), losses.dtype)


@compat.register
class LocallyAdaptiveLoss(SegmentationLoss):
    """Locally adaptive learning, LAD (Guo et al. 2018), in our reading of it.

    In a window around a pixel, the m pixels of the centre's class are merged into one,
    x̄ = (1/m) Σ w_d x, where w_d = exp(−d²/2σ²) and d is the chessboard distance from
    the centre. The patch costs ε, the cross-entropy of x̄ and the class. M patches make
    the loss ((1/M) Σ ε^k)^(1/k).

    What we settled, because the paper does not give it: the size of the window, the
    stride, σ, that a patch's class is its centre's, that windows are cut off at the
    border, and that "merged" are logits. Merged probabilities are divided by their sum,
    Σ w_d / m, before their logarithm is taken.

    Args:
        patch_size: odd width of the window, in pixels.
        stride: distance between the centres; the first is the first pixel.
        sigma: σ > 0, in pixels.
        k: of the power mean, 1 or more; the greater, the more the worst patches weigh.
        merge: "logits", which are the logarithms where y_pred holds probabilities, or
            "probabilities".
        per_image: whether each image has a power mean of its own, with the mean over
            the images as the loss, or the batch has one, as in the paper.
        from_logits: see `SegmentationLoss`, and so the others.
        ignore_class: label of void pixels, which are neither centre nor merged.
        class_weight: C numbers that multiply the costs ε before the power mean.
        reduction: as in Keras.
        name: name of the loss.
        dtype: dtype of the computation.

    Call arguments and errors: as `SegmentationLoss`, but for pictures (B, H, W) only.
    A sample weight is that of the patch with its centre there. Where the batch has one
    power mean, each replica of `tf.distribute` has its own.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(LocallyAdaptiveLoss()(labels, probabilities)), 4)
    0.6034
    """

    def __init__(
        self,
        patch_size: int = 3,
        stride: int = 1,
        sigma: float = 1.0,
        k: float = 5.0,
        merge: str = "logits",
        per_image: bool = False,
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "locally_adaptive_loss",
        dtype: Any = None,
    ) -> None:
        odd = is_whole(patch_size) and patch_size > 0 and patch_size % 2 == 1
        _expect(odd, "an odd size", patch_size)
        _expect(is_whole(stride) and stride >= 1, "`stride` of 1 or more", stride)
        _expect_positive("sigma", sigma)
        _expect(is_number(k) and 1 <= k < math.inf, "`k` to be 1 or more", k)
        _expect(merge in MERGES, f"`merge` to be one of {MERGES}", merge)
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.patch_size = patch_size
        self.stride = stride
        self.sigma = sigma
        self.k = k
        self.merge = merge
        self.per_image = per_image

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns what each patch adds, (B, N), at its centre, scaled."""
        if scores.shape.rank != 4:
            raise ValueError(
                f"Expected y_pred of shape (B, H, W, C). Received: {scores.shape}"
            )
        size = tf.shape(scores)[1:3]
        classes = _class_map(labels, scores)
        # Void may be anything, NaN too.
        scores = tf.where(classes[..., tf.newaxis] >= 0, scores, 0)
        if self.merge == "logits":
            logits = scores if self.from_logits else _log_probabilities(scores)
            costs = merged_logits_cost(logits, classes, self._windows())
        else:
            losses = cross_entropy(labels, scores, self.from_logits)
            losses = tf.reshape(losses, tf.shape(classes))
            costs = merged_probabilities_cost(losses, classes, self._windows())
        centres = _centres(labels, classes, self.stride)
        flat = self._weigh_classes(tf.reshape(costs, tf.shape(centres.ids)), centres)
        flat = tf.where(centres.valid, flat, 0)
        flat, valid = (rows(t, self.per_image) for t in (flat, centres.valid))
        addends = tf.reshape(
            power_mean_weights(flat, valid, self.k) * flat, tf.shape(costs)
        )
        addends = _between_zeros(addends, self.stride)[:, : size[0], : size[1]]
        addends = tf.reshape(addends, tf.shape(labels.ids))
        return scaled(rows(addends, self.per_image), labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "stride": self.stride,
            "sigma": self.sigma,
            "k": self.k,
            "merge": self.merge,
            "per_image": self.per_image,
        }

    def _windows(self) -> Windows:
        return Windows(self.patch_size, self.stride, self.sigma)


class Windows(NamedTuple):
    """Windows around every so-many-th pixel."""

    size: int
    stride: int
    sigma: float

    def log_weights(self) -> list[float]:
        """Logarithms of the Gaussian of the chessboard distance, one an offset."""
        half = self.size // 2
        distances = [max(abs(y - half), abs(x - half)) for y, x in self._offsets()]
        return [-(d**2) / (2 * self.sigma**2) for d in distances]

    def shifted(self, picture: tf.Tensor, fill: int) -> list[tf.Tensor]:
        """What (B, H, W, …) holds at each offset from the centres, (B, H', W', …)."""
        half, shape = self.size // 2, tf.shape(picture)
        margins = [[0, 0], [half, half], [half, half]]
        margins += [[0, 0]] * (picture.shape.rank - 3)
        padded = tf.pad(picture, margins, constant_values=fill)
        return [
            padded[:, y : y + shape[1] : self.stride, x : x + shape[2] : self.stride]
            for y, x in self._offsets()
        ]

    def same_class(self, classes: tf.Tensor) -> list[tf.Tensor]:
        """Where the pixel at each offset is of the centre's class, (B, H', W')."""
        centre = classes[:, :: self.stride, :: self.stride]
        return [other == centre for other in self.shifted(classes, fill=_VOID)]

    def _offsets(self) -> list[tuple[int, int]]:
        return [(y, x) for y in range(self.size) for x in range(self.size)]


def merged_logits_cost(
    logits: tf.Tensor, classes: tf.Tensor, windows: Windows
) -> tf.Tensor:
    """Cross-entropy of x̄ = (1/m) Σ w_d x over logits x (Guo et al. 2018).

    Args:
        logits: (B, H, W, C), finite.
        classes: int32 (B, H, W), −1 on void.
        windows: the windows, H' × W' of them.

    Returns:
        (B, H', W'); meaningless where the centre is void.
    """
    total, count = tf.constant(0, logits.dtype), tf.constant(0, logits.dtype)
    for log_weight, same, other in zip(
        windows.log_weights(),
        windows.same_class(classes),
        windows.shifted(logits, fill=0),
        strict=True,
    ):
        chosen = tf.cast(same, logits.dtype)[..., tf.newaxis]
        total += math.exp(log_weight) * chosen * other
        count += chosen
    centre = tf.maximum(classes[:, :: windows.stride, :: windows.stride], 0)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(centre, total / count)


def merged_probabilities_cost(
    losses: tf.Tensor, classes: tf.Tensor, windows: Windows
) -> tf.Tensor:
    """Cross-entropy of x̄ / Σ_c x̄_c, x̄ = (1/m) Σ w_d x over probabilities x.

    All merged pixels are of one class, so that their cross-entropies −log x_label say
    everything: the cost is −log(Σ w_d exp(−loss) / Σ w_d).

    Args:
        losses: (B, H, W), the pixels' cross-entropies.
        classes: int32 (B, H, W), −1 on void.
        windows: the windows, H' × W' of them.

    Returns:
        (B, H', W'); meaningless where the centre is void.
    """
    same = tf.stack(windows.same_class(classes), axis=-1)
    others = tf.stack(windows.shifted(losses, fill=0), axis=-1)
    log_weights = tf.constant(windows.log_weights(), losses.dtype)
    nothing = tf.constant(float("-inf"), losses.dtype)
    weight = tf.reduce_logsumexp(tf.where(same, log_weights, nothing), axis=-1)
    merged = tf.reduce_logsumexp(tf.where(same, log_weights - others, nothing), axis=-1)
    return weight - merged


def power_mean_weights(costs: tf.Tensor, valid: tf.Tensor, k: float) -> tf.Tensor:
    """Weights w = (ε/E)^(k−1)/M, for which Σ w ε is E = ((1/M) Σ ε^k)^(1/k).

    So is the gradient of the sum, with w held fixed.

    Args:
        costs: ε (R, M), zero or more, zero where not valid; each row has its mean.
        valid: bool (R, M).
        k: 1 or more.

    Returns:
        (R, M), without a gradient.
    """
    costs = tf.stop_gradient(costs)
    # Relative to the greatest, so that no power overflows.
    costs = tf.math.divide_no_nan(costs, tf.reduce_max(costs, axis=1, keepdims=True))
    valid = tf.cast(valid, costs.dtype)
    share = tf.math.divide_no_nan(valid, tf.reduce_sum(valid, axis=1, keepdims=True))
    mean = tf.reduce_sum(share * costs**k, axis=1, keepdims=True) ** (1 / k)
    return share * tf.math.divide_no_nan(costs, mean) ** (k - 1)


# --- Losses of regions ---


@compat.register
class DiceLoss(SegmentationLoss):
    """One minus the soft Dice coefficient, a mean over classes (Milletari et al. 2016).

    With P the probabilities of a class and G its truth, over an image's valid pixels,

        L = mean over the classes of 1 − (2 Σ P G + s) / (Σ P + Σ G + s).

    It is shared out evenly among those pixels.

    Args:
        squared: Σ P² + Σ G² below the line, as Milletari et al. have it, rather than
            Σ P + Σ G.
        smooth: s ≥ 0. With 0, a class that is absent and not predicted costs nothing,
            and one that is absent costs 1 however little is predicted of it.
        per_image: whether each image has sums of its own, with the mean over the
            images as the loss, or the batch has them.
        classes: to average over: "present" in the image (or batch), "all", or ids,
            such as [1] for the foreground of a binary task.
        from_logits: see `SegmentationLoss`, and so the others.
        ignore_class: label of void pixels.
        class_weight: C numbers that multiply what the classes add to the mean.
        reduction: as in Keras.
        name: name of the loss.
        dtype: dtype of the computation.

    Call arguments and errors: as `SegmentationLoss`. Where the batch has the sums,
    each replica of `tf.distribute` has its own.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(DiceLoss()(labels, probabilities)), 4)
    0.3125
    """

    def __init__(
        self,
        squared: bool = False,
        smooth: float = 0.0,
        per_image: bool = True,
        classes: Classes = "present",
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "dice_loss",
        dtype: Any = None,
    ) -> None:
        _expect_not_negative("smooth", smooth)
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.squared = squared
        self.smooth = smooth
        self.per_image = per_image
        self.classes = _check_classes(classes)

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns each valid pixel's even share of the loss, (B, N), scaled."""
        classes = rows(_flat_classes(labels), self.per_image)
        overlap, predicted = class_sums(
            rows(zero_on_void(labels, scores), self.per_image),
            classes,
            self.squared,
            self.from_logits,
        )
        counts = _class_counts(labels, scores, self.per_image)
        losses = 1 - dice(overlap, predicted + counts, self.smooth)
        shares = class_shares(counts, self.classes, self.class_weight)
        loss = tf.reduce_sum(shares * losses, axis=-1, keepdims=True)
        return scaled(loss * _pixel_shares(labels, self.per_image, loss.dtype), labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "squared": self.squared,
            "smooth": self.smooth,
            "per_image": self.per_image,
            "classes": self.classes,
        }


def dice(overlap: tf.Tensor, total: tf.Tensor, smooth: float) -> tf.Tensor:
    """Soft Dice coefficient of each class (Milletari et al. 2016, Eq. for D).

    Args:
        overlap: Σ P G, (R, C).
        total: Σ P + Σ G, or Σ P² + Σ G², (R, C).
        smooth: what is added above and below the line.

    Returns:
        (R, C); 1 where both are empty.
    """
    total += smooth
    # Not `total > 0`, which does not hold for NaN: that would pass for an empty class.
    occupied = ~(total <= 0)
    ratio = (2 * overlap + smooth) / tf.where(occupied, total, 1)
    return tf.where(occupied, ratio, 1)


def class_sums(
    scores: tf.Tensor, classes: tf.Tensor, squared: bool, from_logits: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Σ P G and Σ P, or Σ P², of each class over the valid pixels.

    Args:
        scores: (R, M, C).
        classes: int32 (R, M), −1 on void.
        squared: whether P is squared in the second sum.
        from_logits: whether the scores are logits.

    Returns:
        (R, C) both.
    """

    @tf.custom_gradient
    def sums(
        scores: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., tf.Tensor]]:
        probabilities = _softmax(scores) if from_logits else scores

        def gradient(of_overlap: tf.Tensor, of_predicted: tf.Tensor) -> tf.Tensor:
            return _class_sums_gradient(
                probabilities, classes, of_overlap, of_predicted, squared, from_logits
            )

        return _class_sums(probabilities, classes, squared), gradient

    overlap, predicted = sums(scores)
    return overlap, predicted


def _class_sums(
    probabilities: tf.Tensor, classes: tf.Tensor, squared: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    rows, num_classes = tf.shape(classes)[0], probabilities.shape[-1]
    valid, ids = classes >= 0, tf.maximum(classes, 0)
    own = tf.where(valid, tf.gather(probabilities, ids, batch_dims=2), 0)
    cells = ids + tf.range(rows)[:, tf.newaxis] * num_classes
    overlap = tf.math.unsorted_segment_sum(
        tf.cast(own, tf.float64), cells, rows * num_classes
    )
    predicted = tf.square(probabilities) if squared else probabilities
    if xla.in_xla():
        # XLA adds the pixels up one by one: four digits of float32 would be lost.
        exact = tf.cast(tf.where(valid[..., tf.newaxis], predicted, 0), tf.float64)
        total = tf.cast(tf.reduce_sum(exact, axis=1), probabilities.dtype)
    else:
        # A product adds in blocks, and in a fraction of the time.
        ones = tf.cast(valid, probabilities.dtype)
        total = tf.linalg.matvec(predicted, ones, transpose_a=True)
    overlap = tf.reshape(tf.cast(overlap, probabilities.dtype), [-1, num_classes])
    return overlap, total


@xla.fused
def _class_sums_gradient(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    of_overlap: tf.Tensor,
    of_predicted: tf.Tensor,
    squared: bool,
    from_logits: bool,
) -> tf.Tensor:
    of_overlap, of_predicted = of_overlap[:, tf.newaxis], of_predicted[:, tf.newaxis]
    slopes = 2 * of_predicted * probabilities if squared else of_predicted
    own = _own_class(classes, probabilities)
    slopes = tf.where(own, slopes + of_overlap, slopes)
    slopes = tf.where((classes >= 0)[..., tf.newaxis], slopes, 0)
    if not from_logits:
        return slopes
    return _softmax_gradient(probabilities, slopes)


@compat.register
class LovaszSoftmaxLoss(SegmentationLoss):
    """The Lovász extension of the Jaccard loss (Berman et al. 2018, Eq. 8 and 12).

    Of a class's errors e, 1 − P on its pixels and P on the others, in descending order,
    each adds e times what its pixel takes from the Jaccard index of those before it.
    On predictions of 0 and 1 it is the Jaccard loss, one minus the mean IoU. A pixel's
    addend is its own term.

    Sorting is what takes the time. On a machine without a GPU and outside of XLA it is
    done by NumPy, which is faster at it than TensorFlow, and a graph that holds the
    loss needs this process.

    Args:
        per_image: whether each image has an index of its own, with the mean over the
            images as the loss, or the batch has one, as in the authors' code.
        classes: to average over: "present" in the image (or batch), "all", or ids. A
            class that is absent costs its greatest error.
        from_logits: see `SegmentationLoss`, and so the others.
        ignore_class: label of void pixels.
        class_weight: C numbers that multiply what the classes add to the mean.
        reduction: as in Keras.
        name: name of the loss.
        dtype: dtype of the computation.

    Call arguments and errors: as `SegmentationLoss`. Where the batch has one index,
    each replica of `tf.distribute` has its own.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(LovaszSoftmaxLoss()(labels, probabilities)), 4)
    0.4
    """

    def __init__(
        self,
        per_image: bool = False,
        classes: Classes = "present",
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "lovasz_softmax_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.per_image = per_image
        self.classes = _check_classes(classes)

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns the term of each pixel, (B, N), scaled."""
        classes = rows(_flat_classes(labels), self.per_image)
        counts = _class_counts(labels, scores, self.per_image)
        shares = class_shares(counts, self.classes, self.class_weight)
        scores = rows(zero_on_void(labels, scores), self.per_image)
        return scaled(lovasz_terms(scores, classes, shares, self.from_logits), labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "per_image": self.per_image,
            "classes": self.classes,
        }


def lovasz_terms(
    scores: tf.Tensor, classes: tf.Tensor, shares: tf.Tensor, from_logits: bool
) -> tf.Tensor:
    """Each pixel's term of the Lovász extension (Berman et al. 2018, Eq. 8).

    Args:
        scores: (R, M, C).
        classes: int32 (R, M), −1 on void.
        shares: (R, C), what each class weighs.
        from_logits: whether the scores are logits.

    Returns:
        (R, M), zero on void. In its gradient the order of the errors is held fixed.
    """

    @tf.custom_gradient
    def terms(
        scores: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        probabilities = _softmax(scores) if from_logits else scores
        errors = _errors_by_class(probabilities, classes)
        if xla.in_xla() or not xla.on_cpu():
            steps = jaccard_steps(errors, classes)
        else:
            steps = numpy_jaccard_steps(errors, classes, shares > 0)
        weights = tf.transpose(steps * shares[..., tf.newaxis], [0, 2, 1])

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return _lovasz_gradient(
                probabilities, classes, weights, upstream, from_logits
            )

        return _weighted_errors(probabilities, classes, weights), gradient

    return terms(scores)


def _errors(probabilities: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """1 − P on a class's pixels and P on the others, (R, M, C)."""
    own = _own_class(classes, probabilities)
    return tf.where(own, 1 - probabilities, probabilities)


@xla.fused
def _errors_by_class(probabilities: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    return tf.transpose(_errors(probabilities, classes), [0, 2, 1])


@xla.fused
def _weighted_errors(
    probabilities: tf.Tensor, classes: tf.Tensor, weights: tf.Tensor
) -> tf.Tensor:
    terms = tf.reduce_sum(weights * _errors(probabilities, classes), axis=-1)
    return tf.where(classes >= 0, terms, 0)


@xla.fused
def _lovasz_gradient(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    weights: tf.Tensor,
    upstream: tf.Tensor,
    from_logits: bool,
) -> tf.Tensor:
    upstream = tf.where(classes >= 0, upstream, 0)[..., tf.newaxis]
    own = _own_class(classes, probabilities)
    slopes = upstream * tf.where(own, -weights, weights)
    return _softmax_gradient(probabilities, slopes) if from_logits else slopes


def jaccard_steps(errors: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Growth of the Jaccard loss as each pixel turns wrong, the worst first.

    This is the gradient of the Lovász extension (Berman et al. 2018, Eq. 9). Of S
    pixels of the class with f of them and b others wrong, the index is I/U with
    I = S − f and U = S + b. One more of the class's own takes 1/U from it; one more of
    the others takes I/(U(U + 1)), or 1 where the class is absent. So written, no
    difference cancels.

    Args:
        errors: (R, C, M) in [0, 1].
        classes: int32 (R, M), −1 on void.

    Returns:
        (R, C, M), zero on void.
    """
    shape = tf.shape(errors)
    # Void is neither of the class nor of the others: it may stand anywhere.
    own = classes[:, tf.newaxis] == tf.range(errors.shape[1])[:, tf.newaxis]
    rest = (classes >= 0)[:, tf.newaxis] & ~own
    order = tf.argsort(errors, axis=-1, direction="DESCENDING")
    rows = tf.range(shape[0] * shape[1])[:, tf.newaxis] * shape[2]
    order = tf.reshape(tf.reshape(order, [-1, shape[2]]) + rows, [-1])
    # Counted in integers: float32 counts no further than 2^24 pixels.
    own, rest = (
        tf.reshape(tf.gather(tf.reshape(tf.cast(t, tf.int32), [-1]), order), shape)
        for t in (own, rest)
    )
    size = tf.reduce_sum(own, axis=-1, keepdims=True)
    intersection = tf.cast(size - tf.cumsum(own, axis=-1), errors.dtype)
    union = tf.cast(size + tf.cumsum(rest, axis=-1), errors.dtype)
    truth, others = tf.cast(own, errors.dtype), tf.cast(rest, errors.dtype)
    of_class = tf.math.divide_no_nan(truth, union)
    before = tf.maximum(union - 1, 1)
    of_others = others * tf.where(size > 0, intersection / (before * union), 0)
    first = others * tf.cast((size == 0) & (union == 1), errors.dtype)
    steps = tf.reshape(of_class + of_others + first, [-1])
    return tf.reshape(tf.gather(steps, tf.math.invert_permutation(order)), shape)


def numpy_jaccard_steps(
    errors: tf.Tensor, classes: tf.Tensor, wanted: tf.Tensor
) -> tf.Tensor:
    """`jaccard_steps` by NumPy, whose sort is faster than TensorFlow's on a CPU.

    Args:
        errors: (R, C, M).
        classes: int32 (R, M).
        wanted: bool (R, C): rows and classes whose steps are used.

    Returns:
        (R, C, M), zero where not wanted. XLA cannot compile it.
    """
    steps = tf.numpy_function(
        _steps_of_batch, [errors, classes, wanted], errors.dtype, stateful=False
    )
    return tf.ensure_shape(steps, errors.shape)


def _steps_of_batch(
    errors: np.ndarray, classes: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """The steps (R, C, M), rows and classes side by side in threads."""
    steps = np.zeros_like(errors)

    def fill(place: tuple[int, int]) -> None:
        row, label = place
        order = _descending(errors[place], classes[row] >= 0)
        steps[place][order] = _sorted_steps(classes[row][order] == label, errors.dtype)

    # NumPy's sort lets other threads run.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(fill, zip(*np.nonzero(wanted), strict=True)))
    return steps


def _descending(errors: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Indices of the valid errors (M,), the greatest first, equal ones as they come."""
    count = np.count_nonzero(valid)
    few = 0 < errors.size < 2**31
    if errors.dtype != np.float32 or not few or errors.min() < 0:
        return np.argsort(np.where(valid, -errors, np.inf), kind="stable")[:count]
    # One integer of error and index is sorted faster than indices by their errors: the
    # bits of floats of zero or more (not of −0) are in the order of the floats.
    bits = (errors + np.float32(0)).view(np.int32)
    keys = np.multiply(bits, -(2**32), dtype=np.int64)
    keys |= np.arange(errors.size)
    keys[~valid] = np.iinfo(np.int64).max
    keys.sort()
    return keys[:count] & (2**32 - 1)


def _sorted_steps(own: np.ndarray, dtype: Any) -> np.ndarray:
    """The steps of pixels in order, where bool (n,) tells which are of the class."""
    found = np.cumsum(own, dtype=np.int32 if own.size < 2**31 else np.int64)
    size = found[-1] if own.size else 0
    if not size:
        return np.arange(own.size) == 0
    others = np.arange(1, own.size + 1, dtype=found.dtype) - found
    union = (size + others).astype(dtype)
    # Of the class's own 1/U, of the others I/(U(U − 1)), where U counts the pixel.
    steps = (size - found).astype(dtype)
    steps /= np.maximum(union - 1, 1)
    steps[own] = 1
    steps /= union
    return steps


@compat.register
class BoundaryLoss(SegmentationLoss):
    """The boundary loss (Kervadec et al. 2019, Eq. 5), a mean over classes and pixels.

    The probability of a class times the signed distance to its boundary: outside of the
    class, + the distance to its nearest pixel; inside, 1 − the distance to the nearest
    valid pixel outside, so that the class's own outermost pixels are at 0. The loss is
    negative where the prediction is good. It is meant to stand beside a loss of
    regions; see `LossSum`.

    The distances are SciPy's, computed by Python on the CPU: XLA cannot compile this
    loss (`jit_compile=False`), and a model that holds it as a graph needs this process.

    Args:
        normalize: divide the distances, which are in pixels, by the image's diagonal,
            √(H² + W²), so that the loss does not depend on the resolution.
        classes: to average over: "present" in the image, "all", or ids. A class that
            is absent from an image, or fills it, has no boundary and adds 0.
        from_logits: see `SegmentationLoss`, and so the others.
        ignore_class: label of void pixels, which are neither inside nor outside.
        class_weight: C numbers that multiply what the classes add to the mean.
        reduction: as in Keras.
        name: name of the loss.
        dtype: dtype of the computation.

    Call arguments and errors: as `SegmentationLoss`.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(BoundaryLoss()(labels, probabilities)), 4)
    0.15
    """

    def __init__(
        self,
        normalize: bool = False,
        classes: Classes = "present",
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "boundary_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.normalize = normalize
        self.classes = _check_classes(classes)

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns each pixel's mean of distance times probability, (B, N), scaled."""
        probabilities = _probabilities(labels, scores, self.from_logits)
        distances = flattened(labels, self._distances(labels, scores))
        counts = _class_counts(labels, scores)
        shares = class_shares(counts, self.classes, self.class_weight)[:, tf.newaxis]
        sums = tf.reduce_sum(shares * distances * probabilities, axis=-1)
        return scaled(_pixel_shares(labels, True, sums.dtype) * sums, labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "normalize": self.normalize,
            "classes": self.classes,
        }

    def _distances(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Signed distances (B, …, C)."""
        dtype = scores.dtype
        classes = _class_map(labels, scores)
        distances = distance_maps(classes, scores.shape[-1], dtype)
        distances = tf.ensure_shape(distances, scores.shape)
        if self.normalize:
            size = tf.cast(tf.shape(scores)[1:-1], dtype)
            distances /= tf.norm(size)
        return distances


def distance_maps(classes: tf.Tensor, num_classes: int, dtype: Any) -> tf.Tensor:
    """`signed_distances` of a batch (B, …), of a dtype: (B, …, C)."""

    def of_batch(classes: np.ndarray) -> np.ndarray:
        maps = [signed_distances(image, num_classes) for image in classes]
        return np.reshape(maps, (*classes.shape, num_classes)).astype(
            tf.as_dtype(dtype).as_numpy_dtype
        )

    return tf.numpy_function(of_batch, [classes], dtype, stateful=False)


def signed_distances(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Distances to the boundaries of an image's classes, in pixels.

    Args:
        classes: integers (…), any number of axes; negative on void.
        num_classes: C.

    Returns:
        float64 (…, C): outside of a class, the distance to its nearest pixel; inside,
        1 − that to the nearest valid pixel outside; 0 on void, and where the class is
        absent or there is nothing else.
    """
    maps = np.zeros((*classes.shape, num_classes))
    for label in np.unique(classes[classes >= 0]):
        inside = classes == label
        outside = ~inside & (classes >= 0)
        if outside.any():
            maps[..., label] = np.where(
                inside,
                1 - ndimage.distance_transform_edt(~outside),
                ndimage.distance_transform_edt(~inside) * outside,
            )
    return maps


@compat.register
class ActiveContourLoss(SegmentationLoss):
    """The active contour loss (Chen et al. 2019, Eq. 10–12), a mean over classes.

    With P a class's probabilities, G its truth, and c1 = 1 and c2 = 0 held fixed, which
    is where it differs from the level set loss,

        L = length · √(‖∇P‖² + 1e-8) + λ (μ P (G − c1)² + (1 − P) (G − c2)²),

    as a mean over the valid pixels of an image, where the paper has a sum: so it does
    not depend on the resolution but for its length. ∇P are differences to the next
    pixel along each axis, zero across the border of the image and of void.

    Args:
        length_weight: zero or more, of the length.
        region_weight: λ, zero or more.
        inside_weight: μ, zero or more, of the region inside the contour.
        classes: to average over: "present" in the image, "all", or ids.
        from_logits: see `SegmentationLoss`, and so the others.
        ignore_class: label of void pixels.
        class_weight: C numbers that multiply what the classes add to the mean.
        reduction: as in Keras.
        name: name of the loss.
        dtype: dtype of the computation.

    Call arguments and errors: as `SegmentationLoss`.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(ActiveContourLoss()(labels, probabilities)), 4)
    0.5001
    """

    def __init__(
        self,
        length_weight: float = 1.0,
        region_weight: float = 1.0,
        inside_weight: float = 1.0,
        classes: Classes = "present",
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "active_contour_loss",
        dtype: Any = None,
    ) -> None:
        _expect_not_negative("length_weight", length_weight)
        _expect_not_negative("region_weight", region_weight)
        _expect_not_negative("inside_weight", inside_weight)
        super().__init__(
            from_logits, ignore_class, class_weight, reduction, name, dtype
        )
        self.length_weight = length_weight
        self.region_weight = region_weight
        self.inside_weight = inside_weight
        self.classes = _check_classes(classes)

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns each pixel's length and region terms, (B, N), scaled."""
        counts = _class_counts(labels, scores)
        shares = class_shares(counts, self.classes, self.class_weight)
        classes = _class_map(labels, scores)
        scores = tf.reshape(zero_on_void(labels, scores), tf.shape(scores))

        @tf.custom_gradient
        def losses(
            scores: tf.Tensor,
        ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            probabilities = _softmax(scores) if self.from_logits else scores

            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                slopes = contour_gradient(
                    probabilities, classes, shares, upstream, *weights
                )
                return _to_logits(probabilities, slopes) if self.from_logits else slopes

            return contour_losses(probabilities, classes, shares, *weights), gradient

        weights = (self.length_weight, self.region_weight, self.inside_weight)
        sums = tf.reshape(losses(scores), tf.shape(labels.ids))
        return scaled(_pixel_shares(labels, True, sums.dtype) * sums, labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "length_weight": self.length_weight,
            "region_weight": self.region_weight,
            "inside_weight": self.inside_weight,
            "classes": self.classes,
        }


@xla.fused
def contour_losses(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    shares: tf.Tensor,
    length_weight: float,
    region_weight: float,
    inside_weight: float,
) -> tf.Tensor:
    """Length and region of each pixel (Chen et al. 2019, Eq. 10), summed over classes.

    Args:
        probabilities: (B, …, C), with any number of spatial axes.
        classes: int32 (B, …), −1 on void.
        shares: (B, C), what each class weighs.
        length_weight: of the length.
        region_weight: λ.
        inside_weight: μ.

    Returns:
        (B, …), zero on void.
    """
    own = _own_class(classes, probabilities)
    # (G − 1)² and (G − 0)² of a binary G.
    region = tf.where(own, 1 - probabilities, inside_weight * probabilities)
    lengths = tf.sqrt(_squared_lengths(probabilities, classes))
    costs = length_weight * lengths + region_weight * region
    sums = tf.reduce_sum(_of_pictures(shares, probabilities) * costs, axis=-1)
    return tf.where(classes >= 0, sums, 0)


def contour_gradient(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    shares: tf.Tensor,
    upstream: tf.Tensor,
    length_weight: float,
    region_weight: float,
    inside_weight: float,
) -> tf.Tensor:
    """Gradient of `contour_losses` with respect to the probabilities.

    Args:
        probabilities: as `contour_losses`, and so the others.
        classes: int32 (B, …).
        shares: (B, C).
        upstream: (B, …).
        length_weight: of the length.
        region_weight: λ.
        inside_weight: μ.

    Returns:
        (B, …, C).
    """
    upstream = tf.where(classes >= 0, upstream, 0)
    # Two functions: as one, XLA would take each root anew for all that read it.
    pulls = _pulls(probabilities, classes, shares, upstream, length_weight)
    return _contour_slopes(
        probabilities, classes, shares, upstream, pulls, region_weight, inside_weight
    )


@xla.fused
def _pulls(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    shares: tf.Tensor,
    upstream: tf.Tensor,
    length_weight: float,
) -> tf.Tensor:
    """What a pixel's differences are multiplied with in the length's gradient."""
    weights = upstream[..., tf.newaxis] * _of_pictures(shares, probabilities)
    squares = _squared_lengths(probabilities, classes)
    return length_weight * weights * tf.math.rsqrt(squares)


@xla.fused
def _contour_slopes(
    probabilities: tf.Tensor,
    classes: tf.Tensor,
    shares: tf.Tensor,
    upstream: tf.Tensor,
    pulls: tf.Tensor,
    region_weight: float,
    inside_weight: float,
) -> tf.Tensor:
    """The gradient of the region, and of the lengths here and one pixel before."""
    weights = upstream[..., tf.newaxis] * _of_pictures(shares, probabilities)
    one = tf.ones([], probabilities.dtype)
    own = _own_class(classes, probabilities)
    slopes = region_weight * weights * tf.where(own, -one, inside_weight * one)
    for axis in range(1, classes.shape.rank):
        slopes -= pulls * _steps(probabilities, classes, axis, 1)
        before = _shifted(pulls, axis, -1, 0)
        slopes -= before * _steps(probabilities, classes, axis, -1)
    return slopes


def _squared_lengths(probabilities: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """|∇P|² + 1e-8 of each pixel and class (Chen et al. 2019, Eq. 11), (B, …, C)."""
    squares = tf.constant(_SQUARED_LENGTH_FLOOR, probabilities.dtype)
    for axis in range(1, classes.shape.rank):
        squares += tf.square(_steps(probabilities, classes, axis, 1))
    return squares


def _steps(
    probabilities: tf.Tensor, classes: tf.Tensor, axis: int, by: int
) -> tf.Tensor:
    """Differences to the next pixel, zero across the border and that of void."""
    valid = classes >= 0
    both = valid & _shifted(valid, axis, by, False)
    step = _shifted(probabilities, axis, by, 0) - probabilities
    return tf.where(both[..., tf.newaxis], step, 0)


def _shifted(values: tf.Tensor, axis: int, by: int, fill: Any) -> tf.Tensor:
    """What stands so many pixels further along an axis, `fill` beyond the border."""
    rank = values.shape.rank
    kept = slice(by, None) if by > 0 else slice(None, by)
    part = values[tuple(kept if i == axis else slice(None) for i in range(rank))]
    margin = [max(-by, 0), max(by, 0)]
    margins = [margin if i == axis else [0, 0] for i in range(rank)]
    return tf.pad(part, margins, constant_values=tf.cast(fill, values.dtype))


def _of_pictures(shares: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Shares (B, C) as they stand beside scores (B, …, C)."""
    ones = [1] * (scores.shape.rank - 2)
    return tf.reshape(shares, [-1, *ones, scores.shape[-1]])


def _own_class(classes: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Where a class is the pixel's, bool (B, …, C)."""
    return classes[..., tf.newaxis] == tf.range(scores.shape[-1])


# --- Sums of losses ---


@compat.register
class LossSum(SegmentationLoss):
    """A weighted sum of losses, such as cross-entropy plus Dice.

    Args:
        losses: one or more of this package's losses, alike in `from_logits`,
            `ignore_class` and `reduction`, which are the sum's too.
        weights: a finite number of zero or more for each; by default ones.
        name: name of the loss.
        dtype: dtype of the sum; each loss computes in its own.

    Call arguments and errors: as `SegmentationLoss`.

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
        _check_components(losses, weights)
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
            check_class_weight(loss.class_weight, scores.shape[-1])
            losses = loss.pixel_losses(labels, tf.cast(scores, loss.dtype))
            total += weight * tf.cast(losses, total.dtype)
        return total

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
        """Recreates the sum with its losses."""
        losses = [keras.losses.deserialize(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})


COMPARISON_LOSSES: dict[str, type[SegmentationLoss]] = {
    "lmp": LossMaxPooling,
    "lad": LocallyAdaptiveLoss,
    "focal": FocalLoss,
    "dice": DiceLoss,
    "lovasz": LovaszSoftmaxLoss,
    "boundary": BoundaryLoss,
    "active_contour": ActiveContourLoss,
}
"""The losses that are trained beside the level set loss, by name."""


# --- What they share ---


def class_shares(
    counts: tf.Tensor, classes: str | list[int], class_weight: Sequence[float] | None
) -> tf.Tensor:
    """What each class weighs in the mean over classes, times its weight.

    Args:
        counts: floating (R, C), the number of the classes' pixels.
        classes: "present", "all" or ids.
        class_weight: C numbers or None.

    Returns:
        (R, C).

    Raises:
        ValueError: for an id that is no class.
    """
    num_classes = counts.shape[-1]
    if classes == "present":
        chosen = tf.cast(counts > 0, counts.dtype)
    elif classes == "all":
        chosen = tf.ones_like(counts)
    else:
        _expect(
            all(label < num_classes for label in classes),
            f"`classes` below {num_classes}",
            classes,
        )
        mask = [float(label in classes) for label in range(num_classes)]
        chosen = tf.ones_like(counts) * tf.constant(mask, counts.dtype)
    shares = tf.math.divide_no_nan(
        chosen, tf.reduce_sum(chosen, axis=-1, keepdims=True)
    )
    if class_weight is not None:
        shares *= tf.constant(class_weight, shares.dtype)
    return shares


def _class_counts(
    labels: Labels, scores: tf.Tensor, per_image: bool = True
) -> tf.Tensor:
    """The number of valid pixels of each class, (R, C), in the scores' dtype."""
    num_classes = scores.shape[-1]
    rows = tf.shape(labels.ids)[0]
    cells = labels.ids + tf.range(rows)[:, tf.newaxis] * num_classes
    # Counted in integers: float32 counts no further than 2^24 pixels.
    counts = tf.math.unsorted_segment_sum(
        tf.cast(labels.valid, tf.int32), cells, rows * num_classes
    )
    counts = tf.reshape(counts, [-1, num_classes])
    if not per_image:
        counts = tf.reduce_sum(counts, axis=0, keepdims=True)
    return tf.cast(counts, scores.dtype)


def _probabilities(labels: Labels, scores: tf.Tensor, from_logits: bool) -> tf.Tensor:
    """Probabilities (B, N, C), zero on void."""
    valid = labels.valid[..., tf.newaxis]
    scores = zero_on_void(labels, scores)
    return tf.where(valid, tf.nn.softmax(scores), 0) if from_logits else scores


def _softmax_gradient(probabilities: tf.Tensor, slopes: tf.Tensor) -> tf.Tensor:
    """Carries a gradient from probabilities back to logits, both (…, C)."""
    mean = tf.reduce_sum(probabilities * slopes, axis=-1, keepdims=True)
    return probabilities * (slopes - mean)


_softmax = xla.fused(lambda scores: tf.nn.softmax(scores))
_to_logits = xla.fused(_softmax_gradient)


def _log_probabilities(probabilities: tf.Tensor) -> tf.Tensor:
    """Logarithms, clipped as Keras clips them."""
    return tf.math.log(tf.clip_by_value(probabilities, keras.backend.epsilon(), 1))


def _flat_classes(labels: Labels) -> tf.Tensor:
    """The labels, int32 (B, N), −1 on void."""
    return tf.where(labels.valid, labels.ids, _VOID)


def _class_map(labels: Labels, scores: tf.Tensor) -> tf.Tensor:
    """The labels as pictures, int32 (B, …), −1 on void."""
    classes = tf.reshape(_flat_classes(labels), tf.shape(scores)[:-1])
    return tf.ensure_shape(classes, scores.shape[:-1])


def _centres(labels: Labels, pictures: tf.Tensor, stride: int) -> Labels:
    """Every so-many-th label along both axes of the pictures, flattened."""

    def strided(flat: tf.Tensor) -> tf.Tensor:
        chosen = tf.reshape(flat, tf.shape(pictures))[:, ::stride, ::stride]
        return tf.reshape(chosen, tf.stack([tf.shape(pictures)[0], -1]))

    return Labels(*(strided(tensor) for tensor in labels))


def _between_zeros(pictures: tf.Tensor, stride: int) -> tf.Tensor:
    """Puts (B, H, W) on every so-many-th pixel of (B, H·stride, W·stride)."""
    shape, gap = tf.shape(pictures), [0, stride - 1]
    spread = tf.pad(
        pictures[:, :, tf.newaxis, :, tf.newaxis], [[0, 0], [0, 0], gap, [0, 0], gap]
    )
    return tf.reshape(spread, shape * [1, stride, stride])


def _pixel_shares(labels: Labels, per_image: bool, dtype: tf.DType) -> tf.Tensor:
    """One over the number of a row's valid pixels, zero on the others, (R, M)."""
    valid = tf.cast(rows(labels.valid, per_image), dtype)
    return tf.math.divide_no_nan(valid, tf.reduce_sum(valid, axis=1, keepdims=True))


def _expect(holds: bool, expected: str, received: Any) -> None:
    if not holds:
        raise ValueError(f"Expected {expected}. Received: {received!r}")


def _expect_positive(name: str, value: Any) -> None:
    holds = is_number(value) and 0 < value < math.inf
    _expect(holds, f"`{name}` to be positive", value)


def _expect_not_negative(name: str, value: Any) -> None:
    holds = is_number(value) and 0 <= value < math.inf
    _expect(holds, f"`{name}` to be zero or more", value)


def _check_classes(classes: Classes) -> str | list[int]:
    """Returns `classes` as JSON holds it."""
    if isinstance(classes, str):
        _expect(classes in ("present", "all"), '"present", "all" or ids', classes)
        return classes
    ids = list(classes) if isinstance(classes, Iterable) else []
    _expect(
        ids != []
        and all(is_whole(label) and label >= 0 for label in ids)
        and len(set(ids)) == len(ids),
        "`classes` to hold ids of classes, each once",
        classes,
    )
    return [int(label) for label in ids]


def _check_components(
    losses: Sequence[SegmentationLoss], weights: Sequence[float]
) -> None:
    if not losses or not all(isinstance(loss, SegmentationLoss) for loss in losses):
        raise ValueError(
            "Expected `losses` to hold one or more losses of tf_levelset. "
            f"Received: {losses!r}"
        )
    if len(weights) != len(losses) or not all(
        is_number(w) and 0 <= w < float("inf") for w in weights
    ):
        raise ValueError(
            f"Expected `weights` to hold {len(losses)} finite numbers of zero or more. "
            f"Received: {weights!r}"
        )
    for name in ("from_logits", "ignore_class", "reduction"):
        values = [getattr(loss, name) for loss in losses]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"Expected losses that are alike in `{name}`. Received: {values}"
            )
