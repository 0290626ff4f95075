"""The boundary loss (Kervadec et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import ndimage

from tf_levelset import compat
from tf_levelset.labels import Labels
from tf_levelset.losses.base import SegmentationLoss, flattened, scaled, zero_on_void
from tf_levelset.losses.class_maps import (
    Classes,
    check_classes,
    class_counts,
    class_map,
    class_shares,
    pixel_shares,
)


def signed_distances(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the signed distances to the boundaries of an image's classes, in pixels.

    Args:
        classes: Integers (…) with any number of axes; negative on void.
        num_classes: C.

    Returns:
        float64 (…, C). Outside of a class, the distance to its nearest pixel. Inside,
        1 minus the distance to the nearest valid pixel outside. Zero on void, and
        everywhere if the class is absent or no valid pixel is outside.
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


def distance_maps(classes: tf.Tensor, num_classes: int, dtype: Any) -> tf.Tensor:
    """Returns `signed_distances` of a batch (B, …) as a tensor (B, …, C)."""

    def of_batch(classes: np.ndarray) -> np.ndarray:
        maps = [signed_distances(image, num_classes) for image in classes]
        return np.reshape(maps, (*classes.shape, num_classes)).astype(
            tf.as_dtype(dtype).as_numpy_dtype
        )

    return tf.numpy_function(of_batch, [classes], dtype, stateful=False)


@compat.register
class BoundaryLoss(SegmentationLoss):
    """Boundary loss, a mean over classes and pixels (Kervadec et al. 2019, Eq. 5).

    The probability of a class times the signed distance to the boundary of the class.
    Outside of the class this is the distance to its nearest pixel; inside it is 1 minus
    the distance to the nearest valid pixel outside, so that the outermost pixels of the
    class are at 0. The loss is negative where the prediction is good. It is meant to be
    added to a region loss; see `LossSum`.

    SciPy computes the distances on the CPU, in Python. XLA cannot compile this loss
    (use `jit_compile=False`), and a graph that holds it runs only in the Python process
    that built it.

    Args:
        normalize: Whether to divide the distances, which are in pixels, by the diagonal
            √(H² + W²) of the image, so that the loss does not depend on the resolution.
        classes: Classes to average over: "present" in the image, "all", or class ids. A
            class that is absent from an image, or fills it, has no boundary and adds 0.
        from_logits: Whether y_pred holds logits rather than probabilities.
        ignore_class: Label of void pixels, which are neither inside nor outside.
        class_weight: C numbers. They multiply the terms of the mean over classes.
        reduction, name, dtype: As in `keras.losses.Loss`.

    The call arguments and errors are those of `SegmentationLoss`.

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
        self.classes = check_classes(classes)

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns each pixel's mean of distance times probability, (B, N), scaled."""
        probabilities = zero_on_void(labels, scores)
        if self.from_logits:
            probabilities = tf.nn.softmax(probabilities)
        # The distances are zero on void.
        distances = flattened(labels, self._distances(labels, scores))
        counts = class_counts(labels, scores)
        shares = class_shares(counts, self.classes, self.class_weight)[:, tf.newaxis]
        sums = tf.reduce_sum(shares * distances * probabilities, axis=-1)
        return scaled(pixel_shares(labels, True, sums.dtype) * sums, labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "normalize": self.normalize,
            "classes": self.classes,
        }

    def _distances(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns the signed distances, (B, …, C)."""
        classes = class_map(labels, scores)
        distances = distance_maps(classes, scores.shape[-1], scores.dtype)
        distances = tf.ensure_shape(distances, scores.shape)
        if self.normalize:
            distances /= tf.norm(tf.cast(tf.shape(scores)[1:-1], scores.dtype))
        return distances
