"""Locally adaptive learning (Guo et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import check_positive, expect, is_number, is_whole
from tf_levelset.labels import Labels
from tf_levelset.losses.base import SegmentationLoss, rows, scaled
from tf_levelset.losses.class_maps import VOID, class_map

MERGES = ("logits", "probabilities")


class Windows(NamedTuple):
    """Square windows around every `stride`-th pixel, H' × W' of them in an image."""

    size: int
    stride: int
    sigma: float

    def log_weights(self) -> list[float]:
        """Returns −d²/2σ² for each offset, where d is the chessboard distance."""
        half = self.size // 2
        distances = [max(abs(y - half), abs(x - half)) for y, x in self._offsets()]
        return [-(d**2) / (2 * self.sigma**2) for d in distances]

    def shifted(self, image: tf.Tensor, fill: int) -> list[tf.Tensor]:
        """Returns the values of (B, H, W, …) at each offset from the centres.

        Args:
            image: (B, H, W, …).
            fill: Value beyond the border.

        Returns:
            One tensor (B, H', W', …) for each offset.
        """
        half, shape = self.size // 2, tf.shape(image)
        margins = [[0, 0], [half, half], [half, half]]
        margins += [[0, 0]] * (image.shape.rank - 3)
        padded = tf.pad(image, margins, constant_values=fill)
        return [
            padded[:, y : y + shape[1] : self.stride, x : x + shape[2] : self.stride]
            for y, x in self._offsets()
        ]

    def same_class(self, classes: tf.Tensor) -> list[tf.Tensor]:
        """Returns where the pixel at each offset has the class of the centre."""
        centre = classes[:, :: self.stride, :: self.stride]
        return [other == centre for other in self.shifted(classes, fill=VOID)]

    def _offsets(self) -> list[tuple[int, int]]:
        return [(y, x) for y in range(self.size) for x in range(self.size)]


def merged_logits_cost(
    logits: tf.Tensor, classes: tf.Tensor, windows: Windows
) -> tf.Tensor:
    """Returns the cross-entropy of x̄ = (1/m) Σ w_d x over logits x (Guo et al. 2018).

    Args:
        logits: (B, H, W, C), finite.
        classes: int32 (B, H, W), −1 on void.
        windows: The windows over which the logits are merged.

    Returns:
        (B, H', W'). The value has no meaning where the centre is void.
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
    """Returns the cross-entropy of x̄ / Σ_c x̄_c, x̄ = (1/m) Σ w_d x over probabilities x.

    All merged pixels have the same class, so their cross-entropies −log x_label are
    sufficient: the cost is −log(Σ w_d exp(−loss) / Σ w_d).

    Args:
        losses: (B, H, W), the cross-entropies of the pixels.
        classes: int32 (B, H, W), −1 on void.
        windows: The windows over which the probabilities are merged.

    Returns:
        (B, H', W'). The value has no meaning where the centre is void.
    """
    same = tf.stack(windows.same_class(classes), axis=-1)
    others = tf.stack(windows.shifted(losses, fill=0), axis=-1)
    log_weights = tf.constant(windows.log_weights(), losses.dtype)
    nothing = losses.dtype.min  # Its exponential is zero, as that of −∞.
    weight = tf.reduce_logsumexp(tf.where(same, log_weights, nothing), axis=-1)
    merged = tf.reduce_logsumexp(tf.where(same, log_weights - others, nothing), axis=-1)
    return weight - merged


def power_mean_weights(costs: tf.Tensor, valid: tf.Tensor, k: float) -> tf.Tensor:
    """Returns w = (ε/E)^(k−1)/M, with which Σ w ε is E = ((1/M) Σ ε^k)^(1/k).

    The gradient of E is that of Σ w ε with w held fixed.

    Args:
        costs: ε (R, M), zero or more, and zero where not valid. Each row has a mean.
        valid: bool (R, M).
        k: Exponent, 1 or more.

    Returns:
        (R, M), without a gradient.
    """
    costs = tf.stop_gradient(costs)
    # Relative to the largest cost, so that no power overflows.
    costs = tf.math.divide_no_nan(costs, tf.reduce_max(costs, axis=1, keepdims=True))
    valid = tf.cast(valid, costs.dtype)
    share = tf.math.divide_no_nan(valid, tf.reduce_sum(valid, axis=1, keepdims=True))
    mean = tf.reduce_sum(share * costs**k, axis=1, keepdims=True) ** (1 / k)
    return share * tf.math.divide_no_nan(costs, mean) ** (k - 1)


@compat.register
class LocallyAdaptiveLoss(SegmentationLoss):
    """Locally adaptive learning, LAD (Guo et al. 2018), as we read the paper.

    In a window around a pixel, the m pixels that have the class of the centre are
    merged into one, x̄ = (1/m) Σ w_d x, where w_d = exp(−d²/2σ²) and d is the chessboard
    distance from the centre. The cost ε of the patch is the cross-entropy of x̄. The
    loss is the power mean of M patches, ((1/M) Σ ε^k)^(1/k).

    The paper leaves open the size of the window, the stride, σ, the class of a patch,
    the border, and whether logits or probabilities are merged. Here a patch has the
    class of its centre, windows end at the border, and logits are merged by default.
    Merged probabilities are divided by their sum, Σ w_d / m, before their logarithm is
    taken.

    Args:
        patch_size: Odd width of the window in pixels.
        stride: Distance between centres in pixels. The first pixel is a centre.
        sigma: Positive σ in pixels.
        k: Exponent of the power mean, 1 or more. The larger it is, the more the patches
            with the highest costs weigh.
        merge: "logits" or "probabilities". If y_pred holds probabilities, their
            logarithms serve as logits.
        per_image: Whether to take the power mean over each image and average over the
            images. Otherwise it is taken over the batch, as in the paper.
        from_logits: Whether y_pred holds logits rather than probabilities.
        ignore_class: Label of void pixels. They are neither centres nor merged.
        class_weight: C numbers. They multiply the costs ε before the power mean.
        reduction, name, dtype: As in `keras.losses.Loss`.

    The call arguments and errors are those of `SegmentationLoss`, but only images
    (B, H, W) are accepted. The sample weight of a pixel multiplies the patch that is
    centred there.

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
        expect(odd, "`patch_size` to be a positive odd integer", patch_size)
        at_least_1 = is_whole(stride) and stride >= 1
        expect(at_least_1, "`stride` to be an integer of 1 or more", stride)
        check_positive(sigma=sigma)
        expect(is_number(k) and 1 <= k < math.inf, "`k` to be 1 or more", k)
        expect(merge in MERGES, f"`merge` to be one of {MERGES}", merge)
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
        """Returns the addend of each patch at its centre, (B, N), scaled."""
        if scores.shape.rank != 4:
            raise ValueError(
                f"Expected y_pred of shape (B, H, W, C). Received: {scores.shape}"
            )
        size = tf.shape(scores)[1:3]
        classes = class_map(labels, scores)
        costs = self._costs(labels, scores, classes)
        centres = _centres(labels, classes, self.stride)
        flat = self._weigh_classes(tf.reshape(costs, tf.shape(centres.ids)), centres)
        flat = tf.where(centres.valid, flat, 0)
        flat, valid = (rows(t, self.per_image) for t in (flat, centres.valid))
        addends = power_mean_weights(flat, valid, self.k) * flat
        addends = tf.reshape(addends, tf.shape(costs))
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

    def _costs(
        self, labels: Labels, scores: tf.Tensor, classes: tf.Tensor
    ) -> tf.Tensor:
        """Returns the cost ε of each patch, (B, H', W')."""
        windows = Windows(self.patch_size, self.stride, self.sigma)
        # Scores on void may be anything, even NaN.
        scores = tf.where(classes[..., tf.newaxis] >= 0, scores, 0)
        if self.merge == "logits":
            logits = scores if self.from_logits else _log_probabilities(scores)
            return merged_logits_cost(logits, classes, windows)
        losses = self._cross_entropy(labels, scores)
        losses = tf.reshape(losses, tf.shape(classes))
        return merged_probabilities_cost(losses, classes, windows)


def _log_probabilities(probabilities: tf.Tensor) -> tf.Tensor:
    """Returns logarithms of probabilities, which are clipped as Keras clips them."""
    return tf.math.log(tf.clip_by_value(probabilities, keras.backend.epsilon(), 1))


def _centres(labels: Labels, images: tf.Tensor, stride: int) -> Labels:
    """Returns every `stride`-th label along both axes of the images, flattened."""

    def strided(flat: tf.Tensor) -> tf.Tensor:
        chosen = tf.reshape(flat, tf.shape(images))[:, ::stride, ::stride]
        return tf.reshape(chosen, tf.stack([tf.shape(images)[0], -1]))

    return Labels(*(strided(tensor) for tensor in labels))


def _between_zeros(images: tf.Tensor, stride: int) -> tf.Tensor:
    """Spreads (B, H, W) over every `stride`-th pixel of (B, H·stride, W·stride)."""
    shape, gap = tf.shape(images), [0, stride - 1]
    spread = tf.pad(
        images[:, :, tf.newaxis, :, tf.newaxis], [[0, 0], [0, 0], gap, [0, 0], gap]
    )
    return tf.reshape(spread, shape * [1, stride, stride])
